// The paged kernel against plain attention, over shapes and context lengths at every kind of border; what lies beyond a sequence's end is
// NaN on purpose and must not be seen.
import { describe, expect, test } from 'vitest';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { dispatchOnce, download, testDevice, upload } from '../../test/support/gpu.ts';
import { fromHalf, toHalf } from '../../test/support/half.ts';
import { randomOf } from '../../test/support/random.ts';
import { attentionReference } from './reference.ts';
import { attentionShader, headsPerWorkgroup, type KvShape } from './shader.ts';

const SHAPES: KvShape[] = [
  { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 },
  { heads: 8, kvHeads: 1, headDim: 32, ropeDim: 32 },
  { heads: 2, kvHeads: 2, headDim: 128, ropeDim: 128 },
];
const CONTEXTS = [1, 7, 8, 9, 16, 17, 100];
const BLOCKS = 40;
const NAN_PAIR = 0x7e007e00;

/** A sequence of each context length, each in blocks of its own, scattered; everything else in the arena is NaN. */
function scene({ heads, kvHeads, headDim }: KvShape, seed: number) {
  const random = randomOf(seed);
  const half = (): number => fromHalf(toHalf(random() * 4 - 2));
  const arena = new Uint32Array(BLOCKS * 2 * kvHeads * 16 * (headDim / 2)).fill(NAN_PAIR);
  const view = new DataView(arena.buffer);
  const qkv = new Float32Array(CONTEXTS.length * (heads + 2 * kvHeads) * headDim).fill(Number.NaN);
  const tables: number[] = [];
  const tableAt: number[] = [];
  let nextBlock = 0;
  const expected = CONTEXTS.map((positions, token) => {
    tableAt.push(tables.length);
    for (let b = 0; b < Math.ceil(positions / 16); b++) tables.push((nextBlock++ * 7) % BLOCKS);
    const q = Float32Array.from({ length: heads * headDim }, () => (random() - 0.5) * 0.5);
    qkv.set(q, token * (heads + 2 * kvHeads) * headDim);
    const k = Float32Array.from({ length: positions * kvHeads * headDim }, half);
    const v = Float32Array.from({ length: positions * kvHeads * headDim }, half);
    for (let p = 0; p < positions; p++)
      for (const [which, values] of [k, v].entries())
        for (let head = 0; head < kvHeads; head++)
          for (let i = 0; i < headDim; i++) {
            const block = tables[(tableAt[token] as number) + (p >> 4)] as number;
            const row = ((block * 2 + which) * kvHeads + head) * 16 + (p % 16);
            view.setUint16((row * headDim + i) * 2, toHalf(values[(p * kvHeads + head) * headDim + i] as number), true);
          }
    return attentionReference(q, k, v, { heads, kvHeads, headDim }, positions);
  });
  return { arena, qkv, tables, tableAt, expected };
}

describe.each(SHAPES)('heads $heads over $kvHeads, $headDim dims', (shape) => {
  test.each(['workgroup', 'subgroup'] as const)('lanes share by %s', async (lanesShare) => {
    const gpu = await testDevice();
    // A subgroup of another size cannot run that variant at all: there the engine takes the other one, tested beside it.
    if (lanesShare === 'subgroup' && gpu.subgroupSize !== 8) return;
    const { device } = gpu;
    const { arena, qkv, tables, tableAt, expected } = scene(shape, 77);
    const pipeline = await new Pipelines(device).get('attention', () => attentionShader(shape, lanesShare));
    const { STORAGE, COPY_SRC } = GPUBufferUsage;
    const width = shape.heads * shape.headDim;
    const out = device.createBuffer({ size: CONTEXTS.length * width * 4, usage: STORAGE | COPY_SRC });
    const u32 = (values: number[]): GPUBuffer => upload(device, Uint32Array.from(values), STORAGE);
    const buffers = [upload(device, qkv, STORAGE), upload(device, arena, STORAGE)];
    const positions = u32(CONTEXTS.map((count) => count - 1));
    dispatchOnce(
      device,
      pipeline,
      [...buffers, positions, u32(tableAt), u32(tables), out],
      shape.heads / headsPerWorkgroup(shape),
      CONTEXTS.length,
    );
    const actual = new Float32Array(await download(device, out));
    for (const [token, row] of expected.entries())
      for (const [i, value] of row.entries())
        expect(
          Math.abs((actual[token * width + i] as number) - value),
          `context ${CONTEXTS[token]}, ${i}`,
        ).toBeLessThan(2e-5);
  });
});
