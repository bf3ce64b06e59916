// The whole forward pass on the GPU: against the CPU reference on tiny random models of every tensor type, and against itself, bit for bit, for
// whatever may differ between two runs of one sequence: chunks, company, blocks.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLlamaRunner, type RunnerOptions } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { type ModelFile, TENSOR_TYPES, type TensorType } from '../engine/model/types.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import type { KvFormat } from '../wgsl/kv/format.ts';
import { llamaForward } from './reference/llamaForward.ts';
import { testDevice } from './support/gpu.ts';
import { randomOf } from './support/random.ts';
import { chunkOf, logitsOf } from './support/sequenceRunner.ts';
import { roomFor, type TinyModelOptions, writeTinyModel } from './support/tinyModel.ts';

const VOCAB = 340;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-forward-'));
});
const opened: ModelFile[] = [];
afterAll(async () => {
  for (const file of opened) await file.close();
  await rm(folder, { recursive: true });
});

const GQA = { layers: 2, hidden: 96, feedForward: 160, heads: 6, kvHeads: 2, headDim: 32, vocabSize: VOCAB };

async function open(
  options: Partial<TinyModelOptions> & { type: TensorType },
  activations: 'int8' | 'f32',
  kvFormat: KvFormat = 'f16',
  more: Partial<RunnerOptions> = {},
) {
  const path = join(folder, `${JSON.stringify(options).replace(/\W/g, '')}.gguf`);
  await writeTinyModel(path, {
    ...GQA,
    contextLength: 256,
    tied: true,
    seed: 11,
    ...roomFor(options.type),
    ...options,
  });
  const { file } = await openModelFile(path);
  opened.push(file);
  const runner = await createLlamaRunner({
    gpu: await testDevice(),
    file,
    activations,
    kvFormat,
    kvBlocks: 64,
    maxStepTokens: 40,
    ...more,
  });
  return { file, runner };
}

function tokensOf(seed: number, count: number): number[] {
  const random = randomOf(seed);
  return Array.from({ length: count }, () => Math.floor(random() * VOCAB));
}

const table = (...blocks: number[]): Int32Array => Int32Array.from(blocks);

/** Root of the mean squared difference, in units of the reference's own standard deviation, per position: the worst one. */
function worstRelativeError(actual: Float32Array, expected: Float32Array, vocab: number): number {
  let worst = 0;
  for (let at = 0; at < expected.length; at += vocab) {
    let [sum, squares, difference] = [0, 0, 0];
    for (let i = at; i < at + vocab; i++) {
      const [a, e] = [actual[i] as number, expected[i] as number];
      sum += e;
      squares += e * e;
      difference += (a - e) ** 2;
    }
    worst = Math.max(worst, Math.sqrt(difference / (squares - sum ** 2 / vocab)));
  }
  return worst;
}

describe('forward pass against the CPU reference', () => {
  const shapesOf = (heads: number): [string, Partial<TinyModelOptions>][] => [
    ['GQA 3, tied head', {}],
    ['GQA 1, untied head', { heads, kvHeads: heads, tied: false, seed: 12 }],
    ['head of 128 dims, 5 query heads a group', { heads: 5, kvHeads: 1, headDim: 128, hidden: 64, seed: 13 }],
    ['rows not of 8 in the head', { vocabSize: 333, tied: false, seed: 14 }],
  ];
  for (const type of TENSOR_TYPES)
    for (const activations of ['f32', 'int8'] as const)
      for (const [name, shape] of shapesOf(roomFor(type).heads ?? 3).slice(0, type === 'Q4_1' ? 4 : 2))
        test(`${type}, ${activations} activations, ${name}`, async () => {
          const { file, runner } = await open({ type, ...shape }, activations);
          const tokens = tokensOf(3, 45).map((id) => id % file.config.vocabSize);
          const expected = await llamaForward(file, tokens);
          const actual = await logitsOf(runner, tokens, table(5, 9, 2), [16, 1, 7, 16]);
          // f16 KV alone costs about 3e-4; 8-bit activations about 2e-2 on random weights.
          const exact = activations === 'f32' || !type.startsWith('Q');
          expect(worstRelativeError(actual, expected, file.config.vocabSize)).toBeLessThan(exact ? 2e-3 : 4e-2);
        });

  test.each([
    ['linear', { ropeScale: 4 }],
    ['by factors, as Llama 3 has it', { ropeFactors: Array.from({ length: 16 }, (_, pair) => 1 + pair / 2) }],
  ])('rope scaling, %s', async (_, scaling) => {
    const { file, runner } = await open({ type: 'Q8_0', seed: 19, ...scaling }, 'f32');
    const tokens = tokensOf(5, 120);
    const actual = await logitsOf(runner, tokens, table(3, 0, 1, 6, 7, 5, 4, 2), [16]);
    expect(worstRelativeError(actual, await llamaForward(file, tokens), VOCAB)).toBeLessThan(2e-3);
  });

  test('a mixed file as llama.cpp writes them: values and head in another type than the rest', async () => {
    const types = {
      'blk.0.attn_v.weight': 'Q6_K',
      'blk.1.ffn_down.weight': 'Q5_K',
      'blk.1.attn_k.weight': 'F16',
    } as const;
    const { file, runner } = await open({ type: 'Q4_K', headType: 'Q6_K', types, seed: 17 }, 'int8');
    const tokens = tokensOf(4, 20);
    const actual = await logitsOf(runner, tokens, table(1, 0), [16]);
    expect(worstRelativeError(actual, await llamaForward(file, tokens), VOCAB)).toBeLessThan(4e-2);
  });

  test('a mixed file: f16 head over q4 layers', async () => {
    const { file, runner } = await open({ type: 'Q4_0', headType: 'F16', tied: false, seed: 15 }, 'int8');
    const tokens = tokensOf(4, 20);
    const actual = await logitsOf(runner, tokens, table(1, 0), [16]);
    expect(worstRelativeError(actual, await llamaForward(file, tokens), VOCAB)).toBeLessThan(4e-2);
  });
});

describe.each([
  ['int8', 'f16'],
  ['f32', 'f16'],
  ['int8', 'int8'],
  ['int8', 'int4'],
] as const)('the same bits, %s activations, keys and values in %s', (activations, kvFormat) => {
  let runner: ModelRunner;
  let alone: Float32Array;
  const tokens = tokensOf(21, 50);

  beforeAll(async () => {
    ({ runner } = await open({ type: 'Q4_1', seed: 16 }, activations, kvFormat));
    alone = await logitsOf(runner, tokens, table(0, 1, 2, 3), [1]);
  });

  const sameBits = (actual: Float32Array, from = 0): void => {
    const expected = alone.subarray(from * VOCAB, from * VOCAB + actual.length);
    expect(
      Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength).equals(
        Buffer.from(expected.buffer, expected.byteOffset, expected.byteLength),
      ),
    ).toBe(true);
  };

  test.each([[[16]], [[2, 3, 5, 7, 11]], [[15, 16]]])('in chunks of %j', async (chunks) => {
    sameBits(await logitsOf(runner, tokens, table(0, 1, 2, 3), chunks));
  });

  test('in any blocks of the arena', async () => {
    sameBits(await logitsOf(runner, tokens, table(63, 4, 31, 17), [13]));
  });

  test('in any company: decodes, prefills and strangers in one step', async () => {
    const own = table(0, 1, 2, 3);
    await logitsOf(runner, tokens.slice(0, 33), own, [16]);
    const strangers = [0, 1, 2, 3, 4].map((index) => ({
      tokens: tokensOf(100 + index, 60),
      blocks: table(...[0, 1, 2, 3].map((b) => 10 + 4 * index + b)),
    }));
    for (const { tokens: other, blocks } of strangers) await logitsOf(runner, other.slice(0, 40), blocks, [16]);
    for (let position = 33; position < 50; position++) {
      const company = strangers
        .slice(0, position % 5)
        .map(({ tokens: other, blocks }, index) =>
          chunkOf(other, 40 + ((position + index) % 15), 1 + (index % 3), blocks),
        );
      const { logits } = await runner.step([...company, chunkOf(tokens, position, 1, own)]);
      const before = company.reduce((sum, chunk) => sum + chunk.logitsFor.length, 0);
      sameBits(logits.slice(before * VOCAB), position);
    }
  });

  test('from a copied block', async () => {
    await logitsOf(runner, tokens.slice(0, 24), table(0, 1, 2, 3), [16]);
    runner.copyBlock(1, 40, 8);
    const { logits } = await runner.step([chunkOf(tokens, 24, 16, table(0, 40, 41))]);
    sameBits(logits.slice(), 24);
  });
});

test('the same bits with the splits of a long context apart or within, one of them alone and two in a step', async () => {
  const long = { type: 'Q4_1', seed: 33, contextLength: 1100, layers: 1 } as const;
  const blocks = [0, 70].map((first) => Int32Array.from({ length: 69 }, (_, i) => first + i));
  const tokens = tokensOf(9, 1062);
  const results: Float32Array[] = [];
  for (const splitsApart of [false, true]) {
    const { runner } = await open(long, 'int8', 'f16', { splitsApart, kvBlocks: 140 });
    for (const own of blocks)
      for (let at = 0; at < 1060; at += 40) {
        const count = Math.min(40, 1060 - at);
        await runner.step([{ ...chunkOf(tokens, at, count, own), logitsFor: [] }]);
      }
    const [one, two] = blocks as [Int32Array, Int32Array];
    results.push((await runner.step([chunkOf(tokens, 1060, 1, one)])).logits.slice());
    const both = await runner.step([chunkOf(tokens, 1061, 1, one), chunkOf(tokens, 1060, 1, two)]);
    results.push(both.logits.slice(VOCAB));
  }
  expect(results[0]?.some((value) => value !== 0)).toBe(true);
  for (const other of results.slice(1))
    expect(new Uint32Array(other.buffer)).toEqual(new Uint32Array(results[0]?.buffer as ArrayBuffer));
});

test('the fingerprint tells weights, numerics class and KV format apart', async () => {
  const prints = new Set<string>();
  for (const seed of [31, 32])
    for (const activations of ['int8', 'f32'] as const)
      for (let again = 0; again < 2; again++)
        prints.add((await open({ type: 'Q8_0', seed }, activations)).runner.fingerprint);
  prints.add((await open({ type: 'Q8_0', seed: 31 }, 'int8', 'int8')).runner.fingerprint);
  expect(prints.size).toBe(5);
});

test('a step outside its limits is our bug and says so', async () => {
  const { runner } = await open({ type: 'Q8_0', seed: 18 }, 'int8');
  await expect(runner.step([chunkOf(tokensOf(1, 41), 0, 41, table(0, 1, 2))])).rejects.toThrow(
    /more tokens than it may/,
  );
  await expect(runner.step([chunkOf([VOCAB], 0, 1, table(0))])).rejects.toThrow(/outside the vocabulary/);
  await expect(runner.step([chunkOf([1], 0, 1, table(64))])).rejects.toThrow(/outside the arena/);
});
