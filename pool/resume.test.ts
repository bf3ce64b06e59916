// A request that one pool begins and another ends, cut behind every event: real processes over the simulated runner, whose every row of
// logits is a hash of the exact history. What comes behind the cut is what came there without one, and the last receipt is the whole bill.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../test/support/eventually.ts';
import { type PagedPool, startPagedPool } from '../test/support/pagedPool.ts';
import { resumeOf } from '../test/support/resumeOf.ts';
import { askPool, collect, inferenceContext, ofType, type PoolAnswer } from '../test/support/signedPoolClient.ts';
import { type PoolEvent, poolStatus, type Receipt, receiptsAnswer } from './wire/events.ts';
import type { Resume } from './wire/inference.ts';
import type { SignedContext } from './wire/signing.ts';

const FINGERPRINT = 'paged-runner-1';
const MODELS = [
  { id: 'plain', kvBlocks: 256, speculation: { kind: 'off' } },
  // Goes on in steps of 7, and takes long enough for a step to be measured.
  { id: 'drafts', kvBlocks: 256, file: { follows: 100, stepMs: 10 } },
] as const;

let first: PagedPool;
let second: PagedPool;
beforeAll(async () => {
  const options = { models: MODELS };
  [first, second] = await Promise.all([
    startPagedPool({ ...options, poolId: 'first' }),
    startPagedPool({ ...options, poolId: 'second' }),
  ]);
});
afterAll(() => Promise.all([first.close(), second.close()]));

interface Body extends Record<string, unknown> {
  n?: number;
  resume?: unknown;
}

function send(pool: PagedPool, body: Body, context: Partial<SignedContext> = inferenceContext(), signal?: AbortSignal) {
  const path = 'messages' in body ? '/v1/chat/completions' : '/v1/completions';
  return askPool(pool.address, {
    path,
    body: { model: 'plain', seed: 5, ...body },
    context,
    ...(signal && { signal }),
  });
}

async function run(pool: PagedPool, body: Body, context?: Partial<SignedContext>): Promise<PoolEvent[]> {
  const answer = await send(pool, body, context);
  expect(answer.status, JSON.stringify(answer.json)).toBe(200);
  return collect(answer);
}

/** What a client sees of these events, however they are cut into steps. */
function seen(events: readonly PoolEvent[]) {
  const prompts = new Map<number, unknown[]>();
  for (const { prompt, tokens } of ofType(events, 'prompt_logprobs'))
    prompts.set(prompt, [...(prompts.get(prompt) ?? []), ...tokens]);
  const choices = new Map<number, { ids: number[]; text: string; logprobs: unknown[]; finish: string[] }>();
  for (const { choice, ids, text, logprobs = [], finish_reason } of ofType(events, 'delta')) {
    const told = choices.get(choice) ?? { ids: [], text: '', logprobs: [], finish: [] };
    told.ids.push(...ids);
    told.text += text;
    told.logprobs.push(...logprobs);
    if (finish_reason) told.finish.push(finish_reason);
    choices.set(choice, told);
  }
  return { prompts, choices };
}

function bill(events: readonly PoolEvent[]) {
  const { prompt_tokens, choices, outcome } = ofType(events, 'done')[0]!.receipt;
  return { prompt_tokens, choices, outcome };
}

/** Bytes that make whole characters, halves of them, and beginnings of stop strings. */
const BYTES = Object.fromEntries([...Buffer.from('€éab')].map((byte) => [byte, 40]));
const NEVER_EOS = { 257: -100 };
const PENALTIES = { frequency_penalty: 0.6, presence_penalty: 0.3, repetition_penalty: 1.2 };
/** Most of it comes twice, so that the rest is guessed. */
const RUN = Array.from({ length: 35 }, (_, i) => 10 + 7 * i);
const TWICE = [...RUN, ...RUN.slice(0, 16)];
const TWO = ['abc', 'a second prompt, which is longer than a block is'];

/** What a case is for, in what came without a cut. */
type Shows = (events: readonly PoolEvent[]) => boolean;

const drafted: Shows = (events) => (ofType(events, 'done')[0]?.usage.accepted_prediction_tokens ?? 0) > 0;
const ends =
  (...reasons: string[]): Shows =>
  (events) =>
    reasons.every((reason) => ofType(events, 'delta').some((delta) => delta.finish_reason === reason));
const stopsAndHoldsBack: Shows = (events) => {
  const texts = ofType(events, 'delta').map(({ text }) => text);
  return ends('stop', 'length')(events) && texts.includes('') && texts.some((text) => /[\u0080-\ufffc]/.test(text));
};
const toldInParts: Shows = (events) => ofType(events, 'prompt_logprobs').length > 2;

const CASES: [string, Body, Shows][] = [
  ['greedy', { prompt: TWO[1], max_tokens: 24, temperature: 0, logit_bias: NEVER_EOS }, ends('length')],
  [
    'greedy with drafts',
    { model: 'drafts', prompt: TWICE, max_tokens: 40, temperature: 0, logit_bias: NEVER_EOS },
    drafted,
  ],
  [
    'sampled choices with penalties and logprobs',
    { prompt: TWO, n: 2, max_tokens: 12, logprobs: 2, ...PENALTIES },
    ends('length'),
  ],
  [
    'the same with drafts',
    { model: 'drafts', prompt: [TWICE, RUN], n: 2, max_tokens: 12, logprobs: 2, ...PENALTIES },
    ends('length'), // whether drafts pay beside three others is a matter of time
  ],
  [
    'stop strings and half characters',
    { prompt: 'x', n: 4, max_tokens: 24, logit_bias: BYTES, stop: ['ba€', 'aé', 'bbb'] },
    stopsAndHoldsBack,
  ],
  ['an end of sequence', { prompt: 'x', n: 6, max_tokens: 8, logit_bias: { 257: 4 } }, ends('stop', 'length')],
  [
    'an echoed prompt with logprobs',
    { prompt: [TWO[1], 'b'.repeat(300)], n: 2, max_tokens: 3, echo: true, logprobs: 1 },
    toldInParts,
  ],
  ['an echoed prompt without', { prompt: [TWO[0], 'b'.repeat(300)], max_tokens: 3, echo: true }, toldInParts],
  ['a prompt that is only scored', { prompt: 'b'.repeat(300), max_tokens: 0, echo: true, logprobs: 0 }, toldInParts],
  [
    'a chat',
    { messages: [{ role: 'user', content: 'hi' }], n: 2, max_tokens: 12, logprobs: true, top_logprobs: 1 },
    ends('length'),
  ],
];

describe('behind every event of', () => {
  it.each(CASES)('%s', async (_, body, shows) => {
    const holdTokens = 1200;
    const whole = await run(first, body, { ...inferenceContext(), holdTokens });
    expect(shows(whole)).toBe(true);
    for (let cut = 1; cut < whole.length; cut++) {
      const before = whole.slice(0, cut);
      const resume = resumeOf(FINGERPRINT, before, body.n ?? 1);
      // As the gateway sends it: the ids stand for the prompt.
      const unsaid =
        'messages' in body ? { messages: [{ role: 'user', content: '' }] } : { prompt: resume.prompts.map(() => '') };
      const rest = await run(second, { ...body, ...unsaid, resume }, { ...inferenceContext(), holdTokens });
      expect(rest[0], `cut at ${cut}`).toEqual(whole[0]);
      expect(seen(rest.slice(1)), `cut at ${cut}`).toEqual(seen(whole.slice(cut)));
      expect(bill(rest), `cut at ${cut}`).toEqual(bill(whole));
      const { usage } = ofType(rest, 'done')[0]!;
      expect(usage.completion_tokens).toBe(ofType(whole, 'done')[0]!.usage.completion_tokens);
    }
  });

  it('one whose choices are all over: the prompt, and the receipt', async () => {
    const body = { prompt: 'abc', n: 2, max_tokens: 4 };
    const whole = await run(first, body);
    const rest = await run(second, { ...body, resume: resumeOf(FINGERPRINT, whole, 2) });
    expect(rest.map(({ type }) => type)).toEqual(['prompt', 'done']);
    expect(bill(rest)).toEqual(bill(whole));
  });

  it('one that has all its ids, and whose end got lost: what was held back, and its end', async () => {
    const body = { prompt: 'abc', max_tokens: 3, stop: 'bbx' };
    const all = { ids: [...Buffer.from('abb')], finish_reason: null };
    const resume = { ...resumeOf(FINGERPRINT, [], 1), prompts: [[97, 98, 99]], prompt_logprobs: [0], choices: [all] };
    const rest = await run(second, { ...body, resume });
    expect(ofType(rest, 'delta')).toMatchObject([{ position: 3, ids: [], text: 'bb', finish_reason: 'length' }]);
    expect(bill(rest)).toMatchObject({ choices: [3], outcome: 'completed' });
  });

  it('one that takes its ids as they were told, not as the text would be read now', async () => {
    const events = await run(first, { prompt: 'abc', max_tokens: 9, logit_bias: NEVER_EOS });
    const resume = resumeOf(FINGERPRINT, events.slice(0, 3), 1);
    const rest = await run(second, { prompt: 'otherwise', max_tokens: 9, logit_bias: NEVER_EOS, resume });
    expect(rest[0]).toEqual(events[0]);
    expect(seen(rest)).toEqual(seen(events.slice(3)));
  });

  it('one whose bill began: what the cache answers here is not counted twice', async () => {
    const body = { prompt: TWO[1], max_tokens: 6, logit_bias: NEVER_EOS };
    const context = () => ({ ...inferenceContext(), cacheScope: 'scope' });
    const events = await run(first, body, context());
    await run(second, body, context());
    const billAfter = async (cut: number, usage: Partial<Resume['usage']> = {}) => {
      const resume = resumeOf(FINGERPRINT, events.slice(0, cut), 1);
      const rest = await run(
        second,
        { ...body, resume: { ...resume, usage: { ...resume.usage, ...usage } } },
        context(),
      );
      const { cached_tokens, accepted_prediction_tokens, rejected_prediction_tokens } = ofType(rest, 'done')[0]!
        .receipt;
      return [cached_tokens, accepted_prediction_tokens, rejected_prediction_tokens];
    };
    const length = TWO[1]!.length;
    expect(await billAfter(1)).toEqual([length - 1, undefined, undefined]);
    expect(await billAfter(2)).toEqual([0, undefined, undefined]);
    expect(await billAfter(3, { cached_tokens: 5 })).toEqual([5, undefined, undefined]);
    const predictions = { accepted_prediction_tokens: 1, rejected_prediction_tokens: 7 };
    expect(await billAfter(3, { cached_tokens: length, ...predictions })).toEqual([length, 1, 7]);
  });
});

describe('a pool that died', () => {
  let pool: PagedPool;
  beforeAll(async () => {
    pool = await startPagedPool({ model: { stepMs: 10 } });
  });
  afterAll(() => pool.close());

  const BODY = { model: 'bytes', prompt: 'abc', max_tokens: 60, n: 2, logit_bias: NEVER_EOS };

  async function receiptsOf(requestId: string | undefined): Promise<Receipt[]> {
    const answer = await askPool(pool.address, { method: 'GET', path: '/pool/receipts?limit=100' });
    return receiptsAnswer.parse(answer.json).receipts.filter((one) => one.request_id === requestId);
  }

  /** Everything until the pool is killed, which is when so many ids are there. */
  async function untilKilled({ events }: PoolAnswer, ids: number): Promise<PoolEvent[]> {
    const told: PoolEvent[] = [];
    const pid = pool.supervisor.pid ?? 0;
    let killed = false;
    try {
      for await (const event of events) {
        told.push(event);
        if (killed || ofType(told, 'delta').flatMap((delta) => delta.ids).length < ids) continue;
        process.kill(pid, 'SIGKILL');
        killed = true;
      }
    } catch {
      // The stream broke, as it should.
    }
    expect(killed && !told.some(({ type }) => type === 'done')).toBe(true);
    await eventually('a new process', async () => pool.supervisor.pid !== pid && (await warm()));
    return told;
  }

  async function warm(): Promise<boolean> {
    const answer = await askPool(pool.address, { method: 'GET', path: '/pool/status' }).catch(() => null);
    return answer?.status === 200 && poolStatus.parse(answer.json).state === 'warm';
  }

  it('twice under a request ends it with the ids and the receipt that it would have had', async () => {
    const whole = await run(pool, BODY);
    const context = inferenceContext();
    const legs = [await untilKilled(await send(pool, BODY, context), 20)];
    expect(await receiptsOf(context.requestId)).toMatchObject([{ outcome: 'lost' }]);
    const resume = () => resumeOf(FINGERPRINT, legs.flat(), 2);
    const again = await untilKilled(await send(pool, { ...BODY, resume: resume() }, context), 20);
    legs.push(again.slice(1));
    const [lost] = await receiptsOf(context.requestId);
    expect(lost).toMatchObject({ outcome: 'lost', prompt_tokens: 3 });
    const released = resume().choices.map(({ ids }) => ids.length);
    for (const [choice, count] of released.entries()) expect(lost?.choices[choice]).toBeGreaterThanOrEqual(count);
    expect(Math.min(...released)).toBeGreaterThan(10);
    const last = await run(pool, { ...BODY, resume: resume() }, context);
    expect(seen([...legs.flat(), ...last.slice(1)])).toEqual(seen(whole));
    expect(bill(last)).toEqual(bill(whole));
    expect(await receiptsOf(context.requestId)).toEqual([ofType(last, 'done')[0]?.receipt]);
  });

  it('takes no id again that has ended well, runs, or does not go on', async () => {
    const context = inferenceContext();
    const leaving = new AbortController();
    const running = await send(pool, BODY, context, leaving.signal);
    const told: PoolEvent[] = [];
    for await (const event of running.events) {
      told.push(event);
      if (told.length > 8) break;
    }
    const again = (over: Body = { resume: resumeOf(FINGERPRINT, told, 2) }) =>
      send(pool, { ...BODY, ...over }, context);
    const outcome = async () => (await receiptsOf(context.requestId))[0]?.outcome;
    leaving.abort();
    await eventually('it is cancelled', async () => (await outcome()) === 'cancelled');
    expect(await again({})).toMatchObject({ status: 409, json: { error: { code: 'duplicate_request' } } });
    const goingOn = await again();
    expect(await again()).toMatchObject({ status: 409, json: { error: { code: 'duplicate_request' } } });
    expect(bill(await collect(goingOn))).toMatchObject({ choices: [60, 60], outcome: 'completed' });
    expect(await again()).toMatchObject({ status: 409, json: { error: { code: 'duplicate_request' } } });
    expect(await outcome()).toBe('completed');
  });
});

describe('what another pool can not have told is refused by its name:', () => {
  const body = { prompt: ['abc', 'de'], n: 2, max_tokens: 8, stop: 'END', logit_bias: NEVER_EOS };
  const none = { ids: [], finish_reason: null };
  const choice = (ids: number[], finish_reason: string | null = null) => ({
    choices: [{ ids, finish_reason }, none, none, none],
  });
  const END = [...Buffer.from('END')];
  const CASES: [string, Record<string, unknown>, string][] = [
    ['another number of prompts', { prompts: [[1]] }, 'resume.prompts'],
    ['an empty prompt', { prompts: [[97], []] }, 'resume.prompts.1'],
    ['a prompt outside the vocabulary', { prompts: [[1], [260]] }, 'resume.prompts.1'],
    ['another number of choices', { choices: [none] }, 'resume.choices'],
    ['an id that is none', choice([-1]), 'resume.choices.0.ids.0'],
    ['an id outside the vocabulary', choice([260]), 'resume.choices.0.ids'],
    ['more ids than max_tokens', choice(Array(9).fill(1)), 'resume.choices.0.ids'],
    ['a stop string without its finish', choice([1, ...END]), 'resume.choices.0.ids'],
    ['an end of sequence without its finish', choice([1, 257]), 'resume.choices.0.ids'],
    ['a finish that is none', choice([1], 'error'), 'resume.choices.0.finish_reason'],
    ['told prompts without an echo', { prompt_logprobs: [0, 1] }, 'resume.prompt_logprobs.1'],
    ['another number of told prompts', { prompt_logprobs: [0] }, 'resume.prompt_logprobs'],
    ['more from the cache than there is', { usage: { cached_tokens: 6 } }, 'resume.usage.cached_tokens'],
    [
      'more drafts than ids',
      { usage: { cached_tokens: 0, accepted_prediction_tokens: 1 } },
      'resume.usage.accepted_prediction_tokens',
    ],
    ['an unknown field', { other: 1 }, 'resume.other'],
  ];
  const standing = {
    ...resumeOf(FINGERPRINT, [], 2),
    prompts: [
      [97, 98, 99],
      [100, 101],
    ],
    prompt_logprobs: [0, 0],
  };
  const resume = { ...standing, choices: [none, none, none, none] };

  it.each(CASES)('%s', async (_, wrong, param) => {
    const answer = await send(first, { ...body, resume: { ...resume, ...wrong } });
    expect(answer).toMatchObject({ status: 400, json: { error: { param } } });
    expect((answer.json as { error: object }).error).not.toHaveProperty('resumable');
  });

  it('output before the prompt was told', async () => {
    const cut = { ...resume, ...choice([1]), prompt_logprobs: [2, 0] };
    const answer = await send(first, { ...body, echo: true, resume: cut });
    expect(answer).toMatchObject({ status: 400, json: { error: { param: 'resume.prompt_logprobs.0' } } });
  });

  it('prompts beyond the context', async () => {
    const long = { ...resume, prompts: [[1], Array(510).fill(1)] };
    const answer = await send(first, { ...body, resume: long }, { ...inferenceContext(), holdTokens: 1000 });
    expect(answer).toMatchObject({
      status: 400,
      json: { error: { param: 'resume.prompts', code: 'context_length_exceeded' } },
    });
  });

  it('more ids than the hold allows', async () => {
    const context = { ...inferenceContext(), holdTokens: 5 + 4 * 3 };
    const answer = await send(first, { ...body, resume: { ...resume, ...choice([1, 2, 3, 4]) } }, context);
    expect(answer).toMatchObject({ status: 400, json: { error: { param: 'resume.choices.0.ids' } } });
  });

  it('no seed, without which it would go on as another', async () => {
    const answer = await send(first, { ...body, seed: null, resume });
    expect(answer).toMatchObject({ status: 400, json: { error: { param: 'seed' } } });
  });

  it('another fingerprint, and nothing of the request stays', async () => {
    const context = inferenceContext();
    const answer = await send(first, { ...body, resume: { ...resume, fingerprint: 'f' } }, context);
    expect(answer).toMatchObject({
      status: 409,
      json: { error: { code: 'fingerprint_mismatch', param: 'resume.fingerprint' } },
    });
    const path = `/pool/receipts?request_id=${context.requestId}`;
    expect((await askPool(first.address, { method: 'GET', path })).status).toBe(404);
    expect((await run(first, { ...body, resume }, context)).at(-1)?.type).toBe('done');
  });
});
