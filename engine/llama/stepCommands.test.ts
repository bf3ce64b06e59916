// Commands encoded ahead: they do what they would have done, whatever shape the next step has, and each is submitted once.
import { afterAll, expect, it } from 'vitest';
import { download, pipelinesOf, testDevice, upload } from '../../test/support/gpu.ts';
import { bindInOrder, type RowDispatch } from './dispatch.ts';
import { StepCommands, type StepShape } from './stepCommands.ts';

const { device } = await testDevice();
const counter = upload(device, new Uint32Array(8), GPUBufferUsage.STORAGE);
const pipeline = await pipelinesOf(device).get(
  'count rows',
  () => `
@group(0) @binding(0) var<storage, read_write> counts: array<u32>;
@compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3u) { counts[id.x] += 1u; }`,
);
const dispatch: RowDispatch = {
  ...{ type: 'rows', pipeline, bindGroup: bindInOrder(device, pipeline, [counter]) },
  ...{ rows: 'tokens', unitsPerRow: 1, lanes: 1, rowsAlongY: false },
};
// No row is wanted here: a stage of sampling would do nothing.
const sampling = { encode: () => {} } as never;
const commands = new StepCommands(device, { dispatches: [dispatch], resolve: [], sampling });
const shapeOf = (tokens: number): StepShape => ({
  rows: { tokens, wanted: 0, queryTiles: 0, singleQueries: tokens, splits: 1 },
  flags: 0,
  slotTokens: false,
});

afterAll(() => counter.destroy());

it('runs a step of the shape that is asked for, prepared or not', async () => {
  const expected = new Uint32Array(8);
  let previous = 0;
  for (const tokens of [1, 1, 1, 4, 4, 1, 8, 8, 8, 2]) {
    const { commands: taken, repeats } = commands.take(shapeOf(tokens));
    device.queue.submit([taken]);
    for (let i = 0; i < tokens; i++) expected[i]! += 1;
    expect(repeats).toBe(tokens === previous);
    previous = tokens;
    commands.prepare(shapeOf(tokens));
    commands.prepare(shapeOf(tokens));
  }
  expect(new Uint32Array(await download(device, counter))).toEqual(expected);
});

it('encodes nothing between a step and one like it', () => {
  commands.take(shapeOf(3));
  commands.prepare(shapeOf(3));
  const encoded = device.createCommandEncoder;
  let encoders = 0;
  device.createCommandEncoder = (descriptor) => {
    encoders += 1;
    return encoded.call(device, descriptor);
  };
  commands.take(shapeOf(3));
  expect(encoders).toBe(0);
  commands.take(shapeOf(3));
  device.createCommandEncoder = encoded;
  expect(encoders).toBe(1);
});
