// Tokens drawn by a model's steps on the GPU: as the definition draws them from the same logits, and the same ones whether a step is
// submitted before the last one's tokens are known or after.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { adjustmentsOf } from '../engine/logitAdjustments.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { type ModelRunner, type RowWish, slotToken } from '../engine/modelRunner.ts';
import { positionNoise, seedKey } from '../engine/noise.ts';
import type { SamplingParams, SequenceOutput } from '../engine/request.ts';
import { GREEDY, request } from './support/engineHarness.ts';
import { testDevice } from './support/gpu.ts';
import { referenceAnswer } from './support/referenceAnswer.ts';
import { writeTinyModel } from './support/tinyModel.ts';

const VOCAB = 340;
const PROMPT = Int32Array.from({ length: 21 }, (_, i) => (i * 37) % VOCAB);
const TABLE = Int32Array.of(3, 1, 6, 2);

const SAMPLED: SamplingParams = { ...GREEDY, temperature: 9, topP: 0.95, seed: '77' };
const PENALISED: SamplingParams = {
  ...SAMPLED,
  frequencyPenalty: 0.8,
  presencePenalty: 0.4,
  repetitionPenalty: 1.4,
  logitBias: [[5, 2]],
};

let folder: string;
let close: () => Promise<void>;
let one: ModelRunner;
let two: ModelRunner;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-draws-'));
  const path = join(folder, 'tiny.gguf');
  const shape = { layers: 2, hidden: 96, feedForward: 160, heads: 6, kvHeads: 2, headDim: 32, vocabSize: VOCAB };
  await writeTinyModel(path, { ...shape, contextLength: 256, type: 'Q4_1', tied: false, seed: 5 });
  const { file } = await openModelFile(path);
  const gpu = await testDevice();
  const open = (stepsInFlight: number) =>
    createLlamaRunner({ gpu, file, activations: 'int8', kvBlocks: 40, maxStepTokens: 48, stepsInFlight });
  one = await open(1);
  two = await open(2);
  close = () => file.close();
});
afterAll(async () => {
  await close();
  await rm(folder, { recursive: true });
});

const key = seedKey(SAMPLED.seed);

describe.each([
  ['greedy', GREEDY],
  ['sampled', SAMPLED],
  ['penalised', PENALISED],
])('%s', (_, sampling) => {
  test('a step draws what the definition draws from its logits, and tells their logprobs', async () => {
    const runner = one;
    const adjustments = adjustmentsOf(sampling, PROMPT);
    const wish: RowWish = {
      ...{ kind: 'draw', sampling, noise: positionNoise(key, 0, 0), adjustments, logprobs: 4, slot: 9 },
      pending: false,
    };
    const score: RowWish = { kind: 'score', id: 33, alternatives: 20 };
    const chunk = { tokens: PROMPT, start: 0, blockTable: TABLE, logitsFor: [7, 20] };
    const { logits } = await runner.step([chunk]);
    const rows = [logits.slice(0, VOCAB), logits.slice(VOCAB)];
    const { answers, logits: none } = await runner.step([{ ...chunk, wishes: [score, wish] }]);
    expect(none).toHaveLength(0);
    expect(answers).toEqual([score, wish].map((of, i) => referenceAnswer(rows[i]!, of, new Uint32Array(16))));
  });

  test('a token may still be unknown when the next step is submitted', async () => {
    const wishAt = (position: number, pending: boolean, adjustments: ReturnType<typeof adjustmentsOf>): RowWish => ({
      ...{ kind: 'draw', sampling, noise: positionNoise(key, 0, position), adjustments, logprobs: 1 },
      ...{ slot: 4, pending },
    });
    const decode = async (runner: ModelRunner, ahead: boolean): Promise<unknown[]> => {
      const adjustments = adjustmentsOf(sampling, PROMPT);
      const told: unknown[] = [];
      const first = {
        tokens: PROMPT,
        start: 0,
        blockTable: TABLE,
        logitsFor: [20],
        wishes: [wishAt(0, false, adjustments)],
      };
      let flight = runner.step([first]);
      for (let position = 1; position <= 24; position++) {
        const start = PROMPT.length + position - 1;
        const next = (token: number) => {
          const wishes = [wishAt(position, ahead, adjustments)];
          return runner.step([{ tokens: Int32Array.of(token), start, blockTable: TABLE, logitsFor: [0], wishes }]);
        };
        const early = ahead ? next(slotToken(4)) : null;
        const answer = (await flight).answers[0]!;
        told.push(answer);
        adjustments?.add(answer.id!);
        flight = early ?? next(answer.id!);
      }
      await flight;
      return told;
    };
    const ahead = await decode(two, true);
    expect(new Set(ahead.map((answer) => JSON.stringify(answer))).size).toBeGreaterThan(8);
    expect(ahead).toEqual(await decode(one, false));
  });
});

test('an engine tells the same with one step in flight and with two', async () => {
  const told = async (runner: ModelRunner) => {
    const outputs: SequenceOutput[] = [];
    const engine = new Engine({
      runner,
      clock: () => 0,
      onOutputs: (batch) => outputs.push(...batch),
      onFatal: (error) => {
        throw error;
      },
    });
    for (const [i, sampling] of [GREEDY, SAMPLED, PENALISED, PENALISED].entries()) {
      const ids = PROMPT.subarray(0, 6 + i * 4);
      engine.submit(
        request(`r${i}`, [...ids], { choice: i, maxTokens: 5 + 9 * i, sampling, eosIds: [1, 2, 3], logprobs: i }),
      );
    }
    while (await engine.step());
    engine.checkInvariants();
    const gathered = new Map<string, unknown[]>();
    for (const { id, ids, logprobs, end } of outputs)
      gathered.set(id, [...(gathered.get(id) ?? []), ids, logprobs, end]);
    return Object.fromEntries(gathered);
  };
  const alone = await told(one);
  expect(Object.keys(alone)).toHaveLength(4);
  expect(await told(two)).toEqual(alone);
});

test('a step beyond those that may be in flight is our bug and says so', async () => {
  const runner = two;
  const step = () => runner.step([{ tokens: PROMPT, start: 0, blockTable: TABLE, logitsFor: [] }]);
  const taken = [step(), step()];
  await expect(step()).rejects.toThrow(/in flight/);
  await Promise.all(taken);
});
