// A model with other choices of kernels than the rules': the same fingerprint and the same bits. Choices are made by what the tuner's file says, as
// in a real start. What hardware may choose among is compared kernel by kernel, beside each one's shader.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import { logitsOf } from '../../test/support/sequenceRunner.ts';
import { writeTinyModel } from '../../test/support/tinyModel.ts';
import type { KvFormat } from '../../wgsl/kv/format.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';
import type { OpenedDevice } from '../gpu/device.ts';
import { openModelFile } from '../model/modelFile.ts';
import type { ModelFile } from '../model/types.ts';
import { readVerdicts } from '../tuning/verdictFile.ts';
import { createLlamaRunner } from './runner.ts';

const VOCAB = 300;
const PROMPT = 61;
const BUDGET_MS = 600_000;

let folder: string;
let file: ModelFile;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-choices-'));
  const path = join(folder, 'tiny.gguf');
  const shape = { layers: 2, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 32, vocabSize: VOCAB };
  await writeTinyModel(path, { ...shape, contextLength: 640, type: 'Q4_1', headType: 'Q8_0', tied: false, seed: 5 });
  ({ file } = await openModelFile(path));
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

/** Fingerprint, and logits of a prompt, of a token alone after it, and of three together. */
async function outcome(tuningFile: string | null) {
  const gpu = await testDevice();
  const stages = new Set<string>();
  const runner = await createLlamaRunner({
    ...{ gpu, file, activations: 'int8', kvBlocks: 8, maxStepTokens: 64, maxStepLogits: 64 },
    ...(tuningFile && { tuning: { file: tuningFile, budgetMs: BUDGET_MS } }),
    onProgress: (stage) => stages.add(stage),
  });
  const random = randomOf(12);
  const tokens = Array.from({ length: PROMPT + 4 }, () => Math.floor(random() * VOCAB));
  const table = Int32Array.from({ length: 8 }, (_, i) => 7 - i);
  const logits = new Uint32Array((await logitsOf(runner, tokens, table, [PROMPT, 1, 3])).buffer);
  return { fingerprint: runner.fingerprint, logits, stages: [...stages] };
}

test('whatever is chosen, fingerprint and bits are those of the rules', async () => {
  const byRule = await outcome(null);
  expect(byRule.stages).not.toContain('tuning');
  const measured = join(folder, 'measured.json');
  const tuned = await outcome(measured);
  expect(tuned.stages).toContain('tuning');
  expect({ ...tuned, stages: [] }).toEqual({ ...byRule, stages: [] });
  const verdicts = await readVerdicts(measured);
  // Forms and columns of two kinds of weights, and tiles of rows where the adapter has a choice.
  expect(verdicts.length).toBeGreaterThanOrEqual(4);
  expect(verdicts.flatMap(({ dropped }) => dropped)).toEqual([]);

  const forced = join(folder, 'forced.json');
  const entries = verdicts.map((verdict) => ({ ...verdict, chosen: Object.keys(verdict.seconds).at(-1) }));
  await writeFile(forced, JSON.stringify({ version: 1, entries }));
  const other = await outcome(forced);
  expect({ ...other, stages: [] }).toEqual({ ...byRule, stages: [] });
});

test('a step as hardware has it, in whole dispatches and spread over workgroups, gives the bits of a software adapter', async () => {
  const own = await testDevice();
  const bitsOn = async (gpu: OpenedDevice, kvFormat: KvFormat, activations: Activations): Promise<Uint32Array> => {
    const options = { gpu, file, kvFormat, kvBlocks: 80, maxStepTokens: 64, maxStepLogits: 64 };
    const runner = await createLlamaRunner({ ...options, activations });
    const random = randomOf(12);
    // Over a split of attention's.
    const tokens = Array.from({ length: 560 }, () => Math.floor(random() * VOCAB));
    const table = Int32Array.from({ length: 80 }, (_, i) => 79 - i);
    return new Uint32Array((await logitsOf(runner, tokens, table, [64, 1, 3, 64])).buffer);
  };
  for (const [kvFormat, activations] of [
    ['f16', 'int8'],
    ['int8', 'f32'],
  ] as const) {
    const bits = await bitsOn({ ...own, software: false }, kvFormat, activations);
    expect(bits, `${kvFormat}, ${activations}`).toEqual(await bitsOn(own, kvFormat, activations));
  }
});
