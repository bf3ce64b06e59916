// Embeddings and heads that no binding can hold: cut into row windows, they give the same bits as in one piece. The adapter's real limit (128 MiB
// on lavapipe, where a vocabulary of 128k by 4096 takes 544 MiB in Q8_0) is stood for by a low one.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allocateMatrix, type MatrixOptions } from '../engine/llama/matrix.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import type { TensorType } from '../engine/model/types.ts';
import { testDevice } from './support/gpu.ts';
import { logitsOf } from './support/sequenceRunner.ts';
import { writeTinyModel } from './support/tinyModel.ts';

const VOCAB = 9000;
const LIMIT = 800 * 1024;
/** Ids at the borders of windows and between them. */
const TOKENS = [0, 1, 2047, 2048, 2049, 4096, 4500, 6143, 6144, 8191, 8999];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-limit-'));
});
afterAll(() => rm(folder, { recursive: true }));

const cases: { type: TensorType; tied: boolean; software: boolean }[] = [
  { type: 'Q8_0', tied: true, software: true },
  { type: 'Q6_K', tied: false, software: true },
  { type: 'F16', tied: true, software: true },
  // As a hardware adapter has it: large tiles in storage bindings, filled in several pieces.
  { type: 'Q8_0', tied: false, software: false },
];

test.each(cases)('$type, tied $tied, software $software', async ({ type, tied, software }) => {
  const path = join(folder, `${type}-${tied}-${software}.gguf`);
  const shape = { layers: 1, hidden: 256, feedForward: 256, heads: 4, kvHeads: 2, headDim: 64, vocabSize: VOCAB };
  await writeTinyModel(path, { ...shape, contextLength: 64, type, tied, seed: 5 });
  const { file } = await openModelFile(path);
  const gpu = { ...(await testDevice()), software };
  const logits = async (maxBindingBytes: number): Promise<Float32Array> => {
    const given = { gpu, file, activations: 'int8', kvBlocks: 4, maxStepTokens: 16, maxBindingBytes } as const;
    return logitsOf(await createLlamaRunner(given), TOKENS, Int32Array.of(2), [16]);
  };
  const parts = (maxBindingBytes: number) => {
    const options: MatrixOptions = { uniformWindows: software, maxBindingBytes };
    const matrix = allocateMatrix(gpu.device, [file.tensors.get('token_embd.weight')!], options);
    for (const { buffer } of matrix.parts) buffer.destroy();
    return matrix.parts.map(({ buffer }) => buffer.size);
  };
  expect(parts(2 ** 27)).toHaveLength(1);
  expect(parts(LIMIT).length).toBeGreaterThan(2);
  expect(Math.max(...parts(LIMIT))).toBeLessThanOrEqual(LIMIT);
  const whole = await logits(2 ** 27);
  expect(new Set(whole).size).toBeGreaterThan(whole.length / 2);
  expect(Buffer.from((await logits(LIMIT)).buffer).equals(Buffer.from(whole.buffer))).toBe(true);
  await file.close();
});
