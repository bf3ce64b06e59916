// One request through the real engine on the real adapter, in every way that it can be served: the same ids and the same logprobs, to the
// bit. Each case also shows that it took the way it is named for. From the tiers: tiers.test.ts; whole system: e2e/.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import type { ModelFile } from '../engine/model/types.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import { GREEDY, type PositionLogprob, type SamplingParams, type SequenceRequest } from '../engine/request.ts';
import { cacheOf, request } from './support/engineHarness.ts';
import { testDevice } from './support/gpu.ts';
import { randomOf } from './support/random.ts';
import { writeTinyModel } from './support/tinyModel.ts';

const VOCAB = 300;
const SHAPE = { layers: 3, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 32, vocabSize: VOCAB };
const MAX_STEP_TOKENS = 64;
const SEED = 4;
const MAX_TOKENS = 24;

const SAMPLED: SamplingParams = {
  ...GREEDY,
  temperature: 1.2,
  topP: 0.95,
  topK: 80,
  frequencyPenalty: 0.4,
  repetitionPenalty: 1.1,
  logitBias: [[7, 1.5]],
  seed: '18446744073709551615',
};

let folder: string;
let file: ModelFile;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-bits-'));
  const path = join(folder, 'tiny.gguf');
  await writeTinyModel(path, { ...SHAPE, contextLength: 320, type: 'Q4_1', tied: true, seed: 9 });
  ({ file } = await openModelFile(path));
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

const random = randomOf(SEED);
const promptOf = (length: number): number[] => Array.from({ length }, () => Math.floor(random() * VOCAB));

interface Answer {
  ids: number[];
  logprobs: PositionLogprob[];
  cachedTokens: number;
}

/** The runner with steps of at most so many tokens. */
function narrowed(runner: ModelRunner, maxStepTokens: number): ModelRunner {
  return new Proxy(runner, {
    get: (target, name) => {
      if (name === 'maxStepTokens') return maxStepTokens;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Serves the requests together. */
async function serve(engine: Engine, answers: Map<string, Answer>, requests: SequenceRequest[]): Promise<void> {
  for (const one of requests) {
    answers.set(one.id, { ids: [], logprobs: [], cachedTokens: 0 });
    expect(engine.submit(one)).toBeNull();
  }
  while (await engine.step());
  engine.checkInvariants();
}

function engineOver(runner: ModelRunner): { engine: Engine; answers: Map<string, Answer> } {
  const answers = new Map<string, Answer>();
  const engine = new Engine({
    ...{ runner, clock: Date.now },
    onOutputs: (outputs) => {
      for (const output of outputs) {
        const answer = answers.get(output.id)!;
        answer.ids.push(...output.ids);
        answer.logprobs.push(...(output.logprobs ?? []));
        answer.cachedTokens = output.cachedTokens ?? answer.cachedTokens;
      }
    },
    onFatal: (error) => {
      throw error;
    },
  });
  return { engine, answers };
}

describe.each([
  ['greedy', GREEDY],
  ['sampled with penalties', SAMPLED],
] as const)('%s: the same bits', (_, sampling) => {
  const prompt = promptOf(100);
  const ours = (over: Partial<SequenceRequest> = {}): SequenceRequest =>
    request('ours', prompt, { sampling, maxTokens: MAX_TOKENS, logprobs: 5, cache: cacheOf('ours'), ...over });
  const stranger = (i: number, length: number, maxTokens: number): SequenceRequest =>
    request(`stranger ${i}`, promptOf(length), {
      tenant: `tenant ${i % 3}`,
      cache: cacheOf(`tenant ${i % 3}`),
      maxTokens,
      sampling: { ...SAMPLED, temperature: 0.5 + (i % 4) / 2, seed: String(i) },
      logprobs: i % 2 ? 3 : null,
    });

  let runner: ModelRunner;
  let expected: Answer;
  const open = async (kvBlocks: number, stepsInFlight: number): Promise<ModelRunner> =>
    createLlamaRunner({
      ...{ gpu: await testDevice(), file, activations: 'int8', kvBlocks, maxStepTokens: MAX_STEP_TOKENS },
      stepsInFlight,
    });
  const same = (answer: Answer | undefined): void => {
    expect(answer?.ids).toEqual(expected.ids);
    expect(answer?.logprobs).toEqual(expected.logprobs);
  };
  beforeAll(async () => {
    runner = await open(256, 1);
    const { engine, answers } = engineOver(runner);
    await serve(engine, answers, [ours()]);
    expected = answers.get('ours')!;
    expect(expected.ids).toHaveLength(MAX_TOKENS);
    expect(expected.cachedTokens).toBe(0);
  });

  it('in chunks of 1 to 64', { timeout: 120_000 }, async () => {
    for (let most = 1; most <= MAX_STEP_TOKENS; most++) {
      const { engine, answers } = engineOver(narrowed(runner, most));
      await serve(engine, answers, [ours()]);
      same(answers.get('ours'));
      expect(engine.status().steps, `steps of ${most}`).toBe(Math.ceil(prompt.length / most) + MAX_TOKENS - 1);
    }
  });

  it('from a cached prefix that ends anywhere, whole blocks shared and the last one copied', async () => {
    for (const shared of [15, 16, 17, 40, 64, 95, 99]) {
      const { engine, answers } = engineOver(runner);
      const head = request('head', prompt.slice(0, shared), { cache: cacheOf('ours'), maxTokens: 1 });
      await serve(engine, answers, [head]);
      await serve(engine, answers, [ours()]);
      same(answers.get('ours'));
      expect(answers.get('ours')?.cachedTokens).toBe(shared);
    }
  });

  it('beside 15 strangers that come and go', async () => {
    const { engine, answers } = engineOver(runner);
    const strangers = Array.from({ length: 15 }, (_, i) => stranger(i, 5 + 13 * i, 3 + 4 * (i % 5)));
    await serve(engine, answers, [...strangers.slice(0, 8), ours(), ...strangers.slice(8)]);
    same(answers.get('ours'));
    expect(engine.status().steps).toBeLessThan(strangers.length + MAX_TOKENS + prompt.length);
  });

  it('preempted and resumed', async () => {
    const other = stranger(0, 140, 60);
    const roomy = engineOver(runner);
    await serve(roomy.engine, roomy.answers, [other]);
    const { engine, answers } = engineOver(await open(18, 1));
    await serve(engine, answers, [other, ours()]);
    same(answers.get('ours'));
    expect(answers.get(other.id)?.ids).toEqual(roomy.answers.get(other.id)?.ids);
    expect(engine.status().preemptions).toBeGreaterThan(0);
  });

  it('with steps submitted ahead', async () => {
    const ahead = await open(64, 2);
    expect(ahead.stepsInFlight).toBe(2);
    const { engine, answers } = engineOver(ahead);
    await serve(engine, answers, [stranger(1, 30, 9), ours(), stranger(2, 60, 40)]);
    same(answers.get('ours'));
  });
});
