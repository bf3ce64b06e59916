// Whole blocks out of the arena and back, on the real adapter: bytes, order against steps, bounds, and the loss of the device.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import { chunkOf, logitsOf } from '../../test/support/sequenceRunner.ts';
import { writeTinyModel } from '../../test/support/tinyModel.ts';
import { openDevice } from '../gpu/device.ts';
import { openModelFile } from '../model/modelFile.ts';
import type { ModelFile } from '../model/types.ts';
import type { ModelRunner } from '../modelRunner.ts';
import { createLlamaRunner } from './runner.ts';

const VOCAB = 300;
const MODEL = { layers: 3, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 32, vocabSize: VOCAB };

let folder: string;
let file: ModelFile;
let runner: ModelRunner;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-transfer-'));
  const path = join(folder, 'tiny.gguf');
  await writeTinyModel(path, { ...MODEL, contextLength: 256, type: 'Q4_1', tied: true, seed: 5 });
  ({ file } = await openModelFile(path));
  const gpu = await testDevice();
  runner = await createLlamaRunner({ gpu, file, activations: 'int8', kvBlocks: 512, maxStepTokens: 64 });
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

const tokensOf = (seed: number, count: number): number[] => {
  const random = randomOf(seed);
  return Array.from({ length: count }, () => Math.floor(random() * VOCAB));
};
const table = (...blocks: number[]): Int32Array => Int32Array.from(blocks);
const bytesOf = (logits: Float32Array): Buffer => Buffer.from(logits.slice().buffer);
const read = async (block: number): Promise<Uint8Array> => {
  const bytes = await runner.transfer.readBlock(block);
  if (!bytes) throw new Error('refused');
  return bytes;
};

describe('blocks between arena and host', () => {
  const tokens = tokensOf(1, 60);

  it('a block that was read, overwritten and written back elsewhere gives the same bits', async () => {
    const expected = await logitsOf(runner, tokens, table(0, 1, 2, 3), [16]);
    const saved = await Promise.all([0, 1, 2].map(read));
    await logitsOf(runner, tokensOf(2, 64), table(0, 1, 2, 3), [16]);
    for (const [i, bytes] of saved.entries()) runner.transfer.writeBlock(40 - i, bytes);
    const { logits } = await runner.step([chunkOf(tokens, 48, 12, table(40, 39, 38, 50))]);
    expect(bytesOf(logits).equals(bytesOf(expected.subarray(48 * VOCAB)))).toBe(true);
  });

  it('a read is of the moment it was asked, also when the step right behind it overwrites the block', async () => {
    await logitsOf(runner, tokens, table(0, 1, 2, 3), [16]);
    const before = await read(1);
    const asked = read(1);
    const step = runner.step([chunkOf(tokensOf(3, 32), 16, 16, table(0, 1))]);
    const during = read(1); // behind the step, as the queue has it
    await step;
    expect(Buffer.from(await asked).equals(before)).toBe(true);
    expect(Buffer.from(await during).equals(before)).toBe(false);
    expect(Buffer.from(await during).equals(await read(1))).toBe(true);
  });

  it('copies, reads and writes of one turn take effect in the order in which they were asked', async () => {
    await logitsOf(runner, tokens, table(0, 1, 2, 3), [16]);
    const [first, second] = await Promise.all([read(0), read(1)]);
    runner.copyBlock(0, 20, 16);
    const copied = read(20);
    runner.transfer.writeBlock(0, second);
    const written = read(0);
    runner.copyBlock(0, 20, 16);
    expect(Buffer.from(await copied).equals(first)).toBe(true);
    expect(Buffer.from(await written).equals(second)).toBe(true);
    expect(Buffer.from(await read(20)).equals(second)).toBe(true);
  });

  it('reads past the staging memory are refused, and taken again once some have come back', async () => {
    const asked = Array.from({ length: 20_000 }, () => runner.transfer.readBlock(3));
    const taken = asked.filter((promise) => promise !== null);
    expect(taken.length * runner.transfer.blockBytes).toBeLessThanOrEqual(32 * 2 ** 20);
    expect(taken.length).toBeGreaterThan(100);
    expect(taken.length).toBeLessThan(asked.length);
    const [one] = await Promise.all(taken);
    expect(Buffer.from(await read(3)).equals(one ?? Buffer.of())).toBe(true);
  });

  it('a block outside the arena, or of another size, is our bug', () => {
    expect(() => runner.transfer.readBlock(512)).toThrow(/outside the arena/);
    expect(() => runner.transfer.writeBlock(0, new Uint8Array(8))).toThrow(/written whole/);
  });
});

it('a lost device answers reads under way with null and refuses later ones', async () => {
  const choice: { dawnFlags?: string[] } = JSON.parse(process.env.HEARTH_TEST_ADAPTER ?? '{}');
  const gpu = await openDevice({ dawnFlags: choice.dawnFlags ?? [] });
  const doomed = await createLlamaRunner({ gpu, file, activations: 'int8', kvBlocks: 4, maxStepTokens: 16 });
  const asked = doomed.transfer.readBlock(0);
  doomed.destroy();
  expect(await asked).toBeNull();
  await gpu.lost;
  expect(doomed.transfer.readBlock(0)).toBeNull();
});
