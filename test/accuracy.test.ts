// How far quantised activations and a half-precision cache move the real model from exact arithmetic: teacher-forced over varied text,
// against the CPU reference on the same file. The bounds are those of llama.cpp's CPU backend on it: 0.056 and 96.8 %.
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { openModelText } from '../engine/model/modelText.ts';
import type { ModelFile } from '../engine/model/types.ts';
import type { KvFormat } from '../wgsl/kv/format.ts';
import { llamaForward, logprob } from './reference/llamaForward.ts';
import { testDevice } from './support/gpu.ts';
import { logitsOf } from './support/sequenceRunner.ts';
import { testModelPath } from './support/testModel.ts';

const TOKENS = 320;

let file: ModelFile;
let tokens: number[];
let reference: Float32Array;
/** By the engine with f32 activations and f16 keys and values. */
let exact: Float32Array;

beforeAll(async () => {
  const path = await testModelPath();
  ({ file } = await openModelFile(path));
  const text = await openModelText(path);
  const prose = await readFile(new URL('./golden/prose.txt', import.meta.url), 'utf8');
  tokens = text.encode(prose, { parseSpecial: false }).slice(0, TOKENS);
  expect(tokens.length).toBe(TOKENS);
  reference = await llamaForward(file, tokens);
}, 600_000);

afterAll(() => file.close());

function argmax(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if ((row[i] as number) > (row[best] as number)) best = i;
  return best;
}

/** How much the best logit is above the second best. */
function margin(row: Float32Array): number {
  const best = argmax(row);
  let second = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < row.length; i++) if (i !== best) second = Math.max(second, row[i] as number);
  return (row[best] as number) - second;
}

/** [TOKENS, vocab], by the engine. */
async function logitsWith(activations: 'int8' | 'f32', kvFormat: KvFormat): Promise<Float32Array> {
  const runner = await createLlamaRunner({
    gpu: await testDevice(),
    file,
    activations,
    kvFormat,
    kvBlocks: Math.ceil(TOKENS / 16),
    maxStepTokens: 16,
  });
  const blocks = Int32Array.from({ length: TOKENS / 16 }, (_, i) => i);
  return logitsOf(runner, tokens, blocks, [16]);
}

function compare(name: string, logits: Float32Array, truth: Float32Array) {
  const { vocabSize } = file.config;
  let difference = 0;
  let agreed = 0;
  let surest = 0;
  for (let position = 0; position < TOKENS - 1; position++) {
    const actual = logits.subarray(position * vocabSize, (position + 1) * vocabSize);
    const expected = truth.subarray(position * vocabSize, (position + 1) * vocabSize);
    const next = tokens[position + 1] as number;
    difference += Math.abs(logprob(actual, next) - logprob(expected, next));
    if (argmax(actual) === argmax(expected)) agreed++;
    else surest = Math.max(surest, margin(expected));
  }
  const result = { meanDelta: difference / (TOKENS - 1), agreement: agreed / (TOKENS - 1), surest };
  console.log(`${name} over ${TOKENS} tokens: ${JSON.stringify(result)}`);
  return result;
}

describe('the real model, teacher-forced', () => {
  test('int8 activations', async () => {
    const { meanDelta, agreement, surest } = compare('int8 activations', await logitsWith('int8', 'f16'), reference);
    expect(meanDelta).toBeLessThanOrEqual(0.06);
    expect(agreement).toBeGreaterThanOrEqual(0.965);
    expect(surest, 'margin of the surest disagreement').toBeLessThanOrEqual(1);
  });

  test('f32 activations', async () => {
    exact = await logitsWith('f32', 'f16');
    const { meanDelta, agreement } = compare('f32 activations', exact, reference);
    expect(meanDelta).toBeLessThanOrEqual(0.002);
    expect(agreement).toBeGreaterThanOrEqual(0.99);
  });

  // Against f16 and with f32 activations, so that the cache's format alone differs.
  test.each([
    ['f32', 0.002, 0.99],
    ['int8', 0.03, 0.98],
    ['int4', 0.35, 0.78],
  ] as const)('keys and values in %s', async (kvFormat, most, least) => {
    const { meanDelta, agreement } = compare(`kv ${kvFormat}`, await logitsWith('f32', kvFormat), exact);
    expect(meanDelta).toBeLessThanOrEqual(most);
    expect(agreement).toBeGreaterThanOrEqual(least);
  });
});
