// One request through the real engine on the real adapter, in every way that it can be served: the same ids and the same logprobs, to the
// bit; with drafts, of which every fifth is wrong, and without. Each case also shows that it took the way it is named for. From the tiers: tiers.test.ts; whole system: e2e/.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine, type EngineOptions } from '../engine/engine.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import {
  GREEDY,
  type PositionLogprob,
  type SamplingParams,
  type SequenceEnd,
  type SequenceRequest,
} from '../engine/request.ts';
import { ngramSpeculation } from '../engine/speculation/ngramDrafter.ts';
import { cacheOf, request } from './support/engineHarness.ts';
import { testDevice } from './support/gpu.ts';
import { OracleDrafter } from './support/oracleDrafter.ts';
import { randomOf } from './support/random.ts';
import { openTinyModel, TINY_VOCAB, type TinyModelFile } from './support/tinyModelFile.ts';

const MAX_STEP_TOKENS = 64;
const SEED = 4;
const MAX_TOKENS = 24;

const SAMPLED: SamplingParams = {
  ...GREEDY,
  temperature: 1.2,
  topP: 0.95,
  topK: 80,
  frequencyPenalty: 0.4,
  presencePenalty: 0.2,
  repetitionPenalty: 1.1,
  logitBias: [[7, 1.5]],
  seed: '18446744073709551615',
};

let tiny: TinyModelFile;
beforeAll(async () => {
  tiny = await openTinyModel();
});
afterAll(() => tiny.close());

const random = randomOf(SEED);
const promptOf = (length: number): number[] => Array.from({ length }, () => Math.floor(random() * TINY_VOCAB));

interface Answer {
  ids: number[];
  logprobs: PositionLogprob[];
  promptLogprobs: PositionLogprob[];
  cachedTokens: number;
  end: SequenceEnd | null;
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
    answers.set(one.id, { ids: [], logprobs: [], promptLogprobs: [], cachedTokens: 0, end: null });
    expect(engine.submit(one)).toBeNull();
  }
  while (await engine.step());
  engine.checkInvariants();
}

function engineOver(
  runner: ModelRunner,
  speculation?: EngineOptions['speculation'],
): { engine: Engine; answers: Map<string, Answer> } {
  const answers = new Map<string, Answer>();
  const engine = new Engine({
    // Where no step takes time, costs are as assumed: what is drafted does not depend on the machine.
    ...{ runner, clock: () => 0, ...(speculation && { speculation }) },
    onOutputs: (outputs) => {
      for (const output of outputs) {
        const answer = answers.get(output.id)!;
        answer.ids.push(...output.ids);
        answer.logprobs.push(...(output.logprobs ?? []));
        answer.promptLogprobs.push(...(output.promptLogprobs ?? []));
        answer.cachedTokens = output.cachedTokens ?? answer.cachedTokens;
        answer.end = output.end ?? null;
      }
    },
    onFatal: (error) => {
      throw error;
    },
  });
  return { engine, answers };
}

describe.each([
  ['greedy', GREEDY, false],
  ['greedy, with drafts', GREEDY, true],
  ['sampled with penalties', SAMPLED, false],
  ['sampled with penalties, with drafts', SAMPLED, true],
] as const)('%s: the same bits', (_, sampling, drafts) => {
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
  /** How sequences go on, for those who draft. */
  const texts: number[][] = [];
  let guesses = 0;
  const speculation = drafts
    ? { open: () => new OracleDrafter(texts, () => guesses++ % 5 === 4), maxDraftTokens: 6 }
    : undefined;
  const drafted = (engine: Engine): void => {
    const { draftedTokens, acceptedTokens } = engine.status();
    expect(acceptedTokens > 0 && draftedTokens > acceptedTokens).toBe(drafts);
  };
  const open = async (kvBlocks: number, stepsInFlight: number): Promise<ModelRunner> =>
    createLlamaRunner({
      ...{ gpu: await testDevice(), file: tiny.file, activations: 'int8', kvBlocks, maxStepTokens: MAX_STEP_TOKENS },
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
    texts.push([...prompt, ...expected.ids]);
  });

  it('in chunks of 1 to 64', { timeout: 120_000 }, async () => {
    for (let most = 1; most <= MAX_STEP_TOKENS; most += drafts && most > 8 ? 11 : 1) {
      const { engine, answers } = engineOver(narrowed(runner, most), speculation);
      await serve(engine, answers, [ours()]);
      same(answers.get('ours'));
      const { steps, acceptedTokens } = engine.status();
      expect(steps + acceptedTokens, `steps of ${most}`).toBe(Math.ceil(prompt.length / most) + MAX_TOKENS - 1);
      if (most > 2) drafted(engine);
    }
  });

  it('from a cached prefix that ends anywhere, whole blocks shared and the last one copied', async () => {
    for (const shared of [15, 16, 17, 40, 64, 95, 99]) {
      const { engine, answers } = engineOver(runner, speculation);
      const head = request('head', prompt.slice(0, shared), { cache: cacheOf('ours'), maxTokens: 1 });
      await serve(engine, answers, [head]);
      await serve(engine, answers, [ours()]);
      same(answers.get('ours'));
      expect(answers.get('ours')?.cachedTokens).toBe(shared);
    }
  });

  // Beside fifteen others no draft pays.
  const company = drafts ? 3 : 15;
  it(`beside ${company} strangers that come and go`, async () => {
    const { engine, answers } = engineOver(runner, speculation);
    const strangers = Array.from({ length: company }, (_, i) => stranger(i, 5 + 13 * i, 3 + 4 * (i % 5)));
    await serve(engine, answers, [...strangers.slice(0, 2), ours(), ...strangers.slice(2)]);
    same(answers.get('ours'));
    expect(engine.status().steps).toBeLessThan(strangers.length + MAX_TOKENS + prompt.length);
    expect(engine.status().draftedTokens > 0).toBe(drafts);
  });

  it('preempted and resumed', async () => {
    const other = stranger(0, 140, 60);
    const roomy = engineOver(runner);
    await serve(roomy.engine, roomy.answers, [other]);
    texts.push([...other.promptIds, ...roomy.answers.get(other.id)!.ids]);
    const { engine, answers } = engineOver(await open(17, 1), speculation);
    await serve(engine, answers, [other, ours()]);
    same(answers.get('ours'));
    expect(answers.get(other.id)?.ids).toEqual(roomy.answers.get(other.id)?.ids);
    expect(engine.status().preemptions).toBeGreaterThan(0);
    drafted(engine);
  });

  it('taken up by another engine at any position, two choices each at its own, whatever its cache has', async () => {
    const [first, second] = [ours(), ours({ id: 'second', choice: 1 })];
    const whole = engineOver(runner);
    await serve(whole.engine, whole.answers, [first, second]);
    const { ids = [], logprobs, end } = whole.answers.get('second')!;
    texts.push([...prompt, ...ids]);
    for (let cut = 0; cut < MAX_TOKENS; cut++) {
      const other = MAX_TOKENS - 1 - cut;
      const { engine, answers } = engineOver(runner, speculation);
      // Nothing, what the first life left of the prompt, and its output, too.
      if (cut % 3 > 0) await serve(engine, answers, [ours({ id: 'before', maxTokens: cut % 3 === 1 ? 1 : cut + 1 })]);
      await serve(engine, answers, [
        { ...first, outputIds: Int32Array.from(expected.ids.slice(0, cut)) },
        { ...second, outputIds: Int32Array.from(ids.slice(0, other)) },
      ]);
      expect(answers.get('ours'), `from ${cut}`).toMatchObject({
        ...{ ids: expected.ids.slice(cut), logprobs: expected.logprobs.slice(cut), end: expected.end },
      });
      expect(answers.get('second'), `from ${other}`).toMatchObject({
        ...{ ids: ids.slice(other), logprobs: logprobs.slice(other), end },
      });
      for (const { cachedTokens } of answers.values()) expect(cachedTokens).toBeLessThanOrEqual(prompt.length);
    }
  });

  it('with a prompt that is scored on from any of its tokens', async () => {
    const whole = engineOver(runner);
    await serve(whole.engine, whole.answers, [ours({ promptLogprobs: 2 })]);
    same(whole.answers.get('ours'));
    const { promptLogprobs } = whole.answers.get('ours')!;
    expect(promptLogprobs).toHaveLength(prompt.length);
    for (const scored of [1, 15, 16, 17, 63, 64, 99, 100]) {
      const { engine, answers } = engineOver(runner, speculation);
      if (scored > 50) await serve(engine, answers, [ours({ id: 'before' })]);
      await serve(engine, answers, [ours({ promptLogprobs: 2, scored })]);
      same(answers.get('ours'));
      expect(answers.get('ours')?.promptLogprobs).toEqual(promptLogprobs.slice(scored));
    }
  });

  it('with steps submitted ahead', async () => {
    const ahead = await open(64, 2);
    expect(ahead.stepsInFlight).toBe(2);
    const { engine, answers } = engineOver(ahead, speculation);
    await serve(engine, answers, [stranger(1, 30, 9), ours(), stranger(2, 60, 40)]);
    same(answers.get('ours'));
    drafted(engine);
  });

  if (!drafts) return;

  it('whatever ends it, and however many choices there are', async () => {
    const stops = expected.ids.map((id) => ({ eosIds: [id] }));
    const bounds = expected.ids.map((_, i) => ({ maxTokens: i + 1 }));
    for (const over of [...stops, ...bounds]) {
      const requests = [0, 1].map((choice) => ({ ...ours(over), id: `choice ${choice}`, choice }));
      const [plain, drafting] = [engineOver(runner), engineOver(runner, speculation)];
      await serve(plain.engine, plain.answers, requests);
      await serve(drafting.engine, drafting.answers, requests);
      expect(drafting.answers).toEqual(plain.answers);
      expect(plain.answers.get('choice 0')?.ids.length).toBeLessThanOrEqual(MAX_TOKENS);
    }
  });

  it('where the text is what drafts are looked up in', async () => {
    const quoting = ours({ promptIds: Int32Array.from([...prompt, ...expected.ids, ...prompt]), maxTokens: 60 });
    const [plain, drafting] = [engineOver(runner), engineOver(runner, ngramSpeculation(6))];
    await serve(plain.engine, plain.answers, [quoting]);
    await serve(drafting.engine, drafting.answers, [quoting]);
    expect(drafting.answers).toEqual(plain.answers);
  });
});
