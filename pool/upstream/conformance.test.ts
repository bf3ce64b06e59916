// What every make keeps to, through the real process of its pool and a server that speaks as the make is documented to: the same answer, the
// same bill as its usage, refusals by name, and nothing lost, doubled or overdrawn when it is slow, full, broken or hostile.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { ScriptedUpstream } from '../../test/support/scriptedUpstream.ts';
import { askPool, collect, inferenceContext, ofType, type PoolAnswer } from '../../test/support/signedPoolClient.ts';
import { startUpstreamPool, type UpstreamPoolProcess, untilState } from '../../test/support/upstreamPool.ts';
import { type PoolEvent, positionsOf, type Receipt, receiptsAnswer, type WireError } from '../wire/events.ts';
import type { SignedContext } from '../wire/signing.ts';
import { MAKES, type MakeName } from './makes/makes.ts';

/** What the names are that each make can't be asked for. */
const REFUSED: Record<MakeName, readonly string[]> = {
  vllm: [],
  sglang: [],
  'tensorrt-llm': ['n'],
  tgi: ['n', 'top_k', 'min_p', 'presence_penalty', 'repetition_penalty', 'logit_bias'],
  lmdeploy: ['n'],
  'llama.cpp': ['n'],
  openai: ['n', 'top_k', 'min_p', 'repetition_penalty'],
};
const TRIED: Record<string, unknown> = {
  n: 2,
  top_k: 5,
  min_p: 0.1,
  frequency_penalty: 0.5,
  presence_penalty: 0.5,
  repetition_penalty: 1.2,
  logit_bias: { '5': 1 },
};
/** Counted exactly while it streams, also without usage at the end. */
const EXACT: readonly MakeName[] = ['vllm', 'sglang', 'tensorrt-llm', 'llama.cpp', 'lmdeploy'];
/** Knows the prompt before the end. */
const KNOWS_PROMPT: readonly MakeName[] = ['vllm', 'sglang', 'tensorrt-llm', 'llama.cpp', 'tgi'];

const MESSAGES = [{ role: 'user', content: 'abcde' }];
/** Of the script's template: 3 + 4 + 5 characters. */
const PROMPT_TOKENS = 12;

describe.each(Object.keys(MAKES) as MakeName[])('%s', (make) => {
  const upstream = new ScriptedUpstream(make);
  const shared = MAKES[make].cache.kind === 'none' || make === 'tensorrt-llm';
  let pool: UpstreamPoolProcess;

  beforeAll(async () => {
    await upstream.start();
    pool = await startUpstreamPool(make, upstream.url, { sharedCache: shared, maxRequests: 3 });
    await untilState(pool, 'warm');
  });
  afterAll(async () => {
    await pool.close();
    await upstream.kill();
  });
  afterEach(() => {
    upstream.script = {};
    upstream.seen.length = 0;
    upstream.left = 0;
  });

  const chat = (over: object = {}, context: Partial<SignedContext> = {}, signal?: AbortSignal): Promise<PoolAnswer> =>
    askPool(pool.address, {
      path: '/v1/chat/completions',
      body: { model: 'served', messages: MESSAGES, max_completion_tokens: 8, seed: 2 ** 47, ...over },
      context: { ...inferenceContext(), cacheScope: 'namespace-of-a', ...context },
      ...(signal && { signal }),
    });
  const complete = (over: object, context: Partial<SignedContext> = {}) =>
    askPool(pool.address, {
      path: '/v1/completions',
      body: { model: 'served', prompt: 'abcde', max_tokens: 8, ...over },
      context: { ...inferenceContext(), cacheScope: 'namespace-of-a', ...context },
    });

  it('a chat and a completion: text, positions that follow one another, and a receipt that is its usage', async () => {
    upstream.script = { text: 'hello', cached: 3 };
    for (const [answer, prompt] of [
      [await chat(), PROMPT_TOKENS],
      [await complete({}), 5],
    ] as const) {
      const events = await collect(answer);
      expect(textOf(events)).toBe('hello');
      expect(follow(events)).toBe(true);
      const { receipt, usage } = ofType(events, 'done')[0]!;
      const cached = make === 'lmdeploy' ? 0 : 3;
      expect(receipt).toMatchObject({
        outcome: 'completed',
        prompt_tokens: prompt,
        cached_tokens: cached,
        choices: [6],
      });
      expect(receipt.estimated).toBeUndefined();
      expect(usage).toMatchObject({ prompt_tokens: prompt, cached_tokens: cached, completion_tokens: 6 });
      expect(finishes(events)).toEqual(['stop']);
      expect(events[0]).toMatchObject({ type: 'prompt', prompts: [] });
    }
  });

  it('the prompt is told at once where the make knows it, and is unknown, not bounded, where it does not', async () => {
    upstream.script = { text: 'hello', tokenMs: 60 };
    const [prompt] = ofType(await collect(await chat()), 'prompt');
    expect(prompt?.prompt_tokens).toBe(KNOWS_PROMPT.includes(make) ? PROMPT_TOKENS : null);
  });

  it('max_tokens is always told, cuts the answer, and is its finish reason', async () => {
    const events = await collect(await chat({ max_completion_tokens: 4 }));
    expect([textOf(events), finishes(events)]).toEqual(['xxxx', ['length']]);
    expect(ofType(events, 'done')[0]?.receipt.choices).toEqual([4]);
    expect(upstream.asked[0]?.body.max_tokens).toBe(4);
  });

  it('without one, what is held beside the prompt is the bound', async () => {
    await collect(await chat({ max_completion_tokens: undefined }, { holdTokens: 30 }));
    expect(upstream.asked[0]?.body.max_tokens).toBe(29);
  });

  it('stop strings are its own affair', async () => {
    upstream.script = { text: 'one two three' };
    const events = await collect(await chat({ stop: ' t', max_completion_tokens: 20 }));
    expect([textOf(events), finishes(events)]).toEqual(['one', ['stop']]);
  });

  it('logprobs: an entry per token, no more alternatives than were asked for', async () => {
    upstream.script = { text: 'hello' };
    const events = await collect(await chat({ logprobs: true, top_logprobs: 1, max_completion_tokens: 5 }));
    const told = ofType(events, 'delta').flatMap(({ logprobs }) => logprobs ?? []);
    expect(told.map(({ token }) => token).join('')).toBe('hello');
    expect(told[0]).toMatchObject({ bytes: [104], logprob: -0.5, top: [{ token: 'h' }] });
    expect(told.every(({ top }) => top.length === 1)).toBe(true);
    if (!MAKES[make].logprobs.completion) return expectRefused(await complete({ logprobs: 1 }), 'logprobs');
    const raw = ofType(await collect(await complete({ logprobs: 0 })), 'delta').flatMap(
      ({ logprobs }) => logprobs ?? [],
    );
    expect(raw[0]).toMatchObject({ token: 'h', top: [] });
  });

  it('what it has no word for is refused by name, and what it has is passed on under its own', async () => {
    upstream.script = { text: 'hello' };
    for (const [param, value] of Object.entries(TRIED)) {
      const answer = await chat({ [param]: value });
      if (REFUSED[make].includes(param)) expectRefused(answer, param);
      else expect(answer.status, param).toBe(200);
      await collect(answer);
    }
    expectRefused(await complete({ echo: true }), 'echo');
    expectRefused(await chat({ cache_retention: 90 }), 'cache_retention');
    expect((await chat({ cache_salt: 'mine' })).status).toBe(400);
    expect((await chat({ model: 'm' })).status).toBe(404);
  });

  it('what changes nothing is no reason to refuse', async () => {
    upstream.script = { text: 'hello' };
    const neutral = { temperature: 1, top_p: 1, top_k: 0, min_p: 0, presence_penalty: 0, repetition_penalty: 1, n: 1 };
    expect((await chat(neutral)).status).toBe(200);
  });

  it('tenants are kept apart by the signed namespace, and a request without the cache by a salt of nobody', async () => {
    upstream.script = { text: 'hello' };
    const { cache } = MAKES[make];
    await collect(await chat());
    await collect(await chat({}, { cacheScope: 'namespace-of-b' }));
    if (cache.kind === 'salt') {
      const [a, b] = upstream.asked.map(({ body }) => body.cache_salt);
      expect([a, b]).toEqual(['namespace-of-a', 'namespace-of-b']);
      await collect(await chat({ cache: false }));
      await collect(await chat({}, { cacheScope: '' }));
      const [c, d] = upstream.asked.slice(2).map(({ body }) => body.cache_salt);
      expect(new Set([a, b, c, d]).size).toBe(4);
      expect(String(c)).toMatch(/^[\w-]{43}$/);
    }
    if (cache.kind === 'switch') expect(upstream.asked.map(({ body }) => body.cache_prompt)).toEqual([false, false]);
    if (cache.kind === 'none') expectRefused(await chat({ cache: false }), 'cache');
  });

  it('prompts are counted without an answer', async () => {
    const count = async (question: object) =>
      (await askPool(pool.address, { path: '/pool/count', body: { model: 'served', ...question } })).json;
    expect(await count({ messages: MESSAGES })).toEqual({
      prompt_tokens: [PROMPT_TOKENS],
    });
    expect(await count({ prompt: ['abc', 'defgh'] })).toEqual({ prompt_tokens: [3, 5] });
    expect(await count({ prompt: [1, 2, 3, 4] })).toEqual({ prompt_tokens: [4] });
    expect(upstream.asked).toEqual([]);
  });

  it('its figures are in the status of the pool', async () => {
    const { figures } = MAKES[make];
    await eventually('the figures', async () => (await pool.status()).waiting === (figures ? 3 : 0));
    const { blocks_total: total, blocks_free: free, models } = await pool.status();
    expect([total, free]).toEqual(make === 'vllm' ? [2000, 1500] : figures?.kvUse ? [1000, 750] : [0, 0]);
    expect(models[0]).toMatchObject({ id: 'served', context_length: 512, state: 'warm' });
  });

  it.each([
    [{ status: 429, message: 'full', headers: { 'retry-after': '7' } }, 503, 'overloaded', 7000],
    [{ status: 500, message: 'secret stack' }, 503, 'no_pool_ready', 1000],
    [{ status: 503, message: 'queue is full', headers: { 'retry-after-ms': '250' } }, 503, 'overloaded', 250],
    [{ status: 502, message: null }, 503, 'no_pool_ready', 1000],
    [{ status: 401, message: 'bad key' }, 503, 'no_pool_ready', 1000],
    [{ status: 400, message: 'temperature is odd' }, 400, null, undefined],
    [{ status: 422, message: 'the maximum context length is 512' }, 400, 'context_length_exceeded', undefined],
  ])('a refusal with %j is %i %s, and nothing is begun', async (refuse, status, code, retry) => {
    upstream.script = { refuse };
    const context = inferenceContext();
    const answer = await chat({}, context);
    expect(answer.status).toBe(status);
    expect(errorOf(answer).code).toBe(code);
    expect(answer.headers.get('retry-after-ms')).toBe(retry === undefined ? null : String(retry));
    expect(errorOf(answer).message).not.toContain('secret');
    expect(await receiptOf(context.requestId)).toBeUndefined();
    if (status === 503 && code === 'no_pool_ready') await untilState(pool, 'warm');
  });

  it.each(['break', 'end'] as const)(
    'a stream that comes to a %s is an error, billed by what is proven',
    async (comes) => {
      upstream.script = { after: { tokens: 3, comes } };
      const events = await collect(await chat());
      const [{ error, receipt } = {}] = ofType(events, 'error');
      expect(error).toMatchObject({ status: 503, code: 'no_pool_ready' });
      expect(error?.resumable).toBeUndefined();
      expect(textOf(events)).toBe('xxx');
      expect(follow(events)).toBe(true);
      const exact = EXACT.includes(make);
      expect(receipt).toMatchObject({ outcome: 'failed', choices: [3] });
      expect(receipt?.prompt_tokens).toBe(PROMPT_TOKENS);
      expect(receipt?.estimated).toBe(exact ? undefined : true);
      await untilState(pool, 'warm');
    },
  );

  it('an answer without usage is whole, and an estimate where it was not counted on the way', async () => {
    upstream.script = { noUsage: true };
    const { receipt } = ofType(await collect(await chat({ max_completion_tokens: 5 })), 'done')[0]!;
    expect([receipt.outcome, receipt.prompt_tokens]).toEqual(['completed', PROMPT_TOKENS]);
    expect(receipt.estimated).toBe(EXACT.includes(make) ? undefined : true);
    if (EXACT.includes(make)) expect(receipt.choices).toEqual([5]);
  });

  it('a client that leaves closes the connection to the upstream, and pays what was released', async () => {
    upstream.script = { tokenMs: 20 };
    const leave = new AbortController();
    const context = inferenceContext();
    const answer = await chat({ max_completion_tokens: 200 }, { ...context, holdTokens: 300 }, leave.signal);
    for await (const event of answer.events) if (event.type === 'delta') break;
    leave.abort();
    await eventually('the upstream sees it', async () => upstream.left === 1);
    await eventually('the receipt', async () => (await receiptOf(context.requestId))?.outcome === 'cancelled');
    const receipt = await receiptOf(context.requestId);
    // Also where it comes with the usage alone, which nobody waited for.
    expect(receipt?.prompt_tokens).toBe(PROMPT_TOKENS);
    expect(receipt?.choices[0]).toBeGreaterThan(0);
    expect(receipt?.choices[0]).toBeLessThan(100);
  });

  it('what nobody was told of may begin again, and what was begun goes on nowhere', async () => {
    upstream.script = { after: { tokens: 0, comes: 'break' } };
    const context = inferenceContext();
    const [told] = ofType(await collect(await chat({}, context)), 'error');
    expect([told?.error.code, told?.receipt?.choices]).toEqual(['no_pool_ready', [0]]);
    upstream.script = { text: 'again' };
    await untilState(pool, 'warm');
    expect((await chat({}, context)).status).toBe(409);
    expect(textOf(await collect(await chat({ anew: true }, context)))).toBe('again');
    const [model] = (await pool.status()).models;
    const before = { fingerprint: model?.fingerprint, prompts: [[1]], choices: [{ ids: [], finish_reason: null }] };
    const resume = { ...before, prompt_logprobs: [0], usage: { cached_tokens: 0 } };
    expect(errorOf(await chat({ resume })).code).toBe('fingerprint_mismatch');
  });

  it('more requests than may be there are refused with a time to come again', async () => {
    upstream.script = { tokenMs: 100 };
    const leave = new AbortController();
    const answers = await Promise.all(Array.from({ length: 5 }, () => chat({}, {}, leave.signal)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 503, 503]);
    expect(answers.flatMap(({ status, json }) => (status === 503 ? errorOf({ json }).code : []))).toEqual([
      'overloaded',
      'overloaded',
    ]);
    leave.abort();
    await eventually('they are gone', async () => upstream.running === 0);
  });

  it('the deadline ends it there, too', async () => {
    upstream.script = { tokenMs: 20 };
    const answer = await chat({ max_completion_tokens: 200 }, { deadlineMs: Date.now() + 300, holdTokens: 300 });
    const [{ error, receipt } = {}] = ofType(await collect(answer), 'error');
    expect([error?.code, receipt?.outcome]).toEqual(['deadline_exceeded', 'cancelled']);
    await eventually('the upstream sees it', async () => upstream.left === 1);
    upstream.script = { beforeMs: 2000 };
    const late = await chat({}, { deadlineMs: Date.now() + 200 });
    expect([late.status, errorOf(late).code]).toEqual([504, 'deadline_exceeded']);
  });

  describe('hostile', () => {
    it('more tokens than were asked for are not released, nor billed', async () => {
      upstream.script = { endless: true };
      const events = await collect(await chat({ max_completion_tokens: 6 }));
      expect([textOf(events), finishes(events)]).toEqual(['xxxxxx', ['length']]);
      expect(ofType(events, 'done')[0]?.receipt.choices).toEqual([6]);
      await eventually('the upstream sees it', async () => upstream.left === 1);
    });

    it('usage beyond the hold is not believed', async () => {
      upstream.script = { usage: { prompt: 1e9, completion: 1e9 } };
      const { receipt } = ofType(await collect(await chat({}, { holdTokens: 40 })), 'done')[0]!;
      expect(receipt.choices[0]).toBeLessThanOrEqual(8);
      expect(receipt.prompt_tokens + receipt.choices[0]!).toBeLessThanOrEqual(40);
    });

    it.each([
      ['a line without end', `data: ${'x'.repeat(9 * 2 ** 20)}`],
      ['what is no JSON', 'data: {"choices":[{"ind\n\n'],
      ['a choice without an index', 'data: {"choices":[{"delta":{"content":"y"}}]}\n\n'],
      ['text that is none', 'data: {"choices":[{"index":0,"delta":{"content":{}},"text":{}}]}\n\n'],
      ['an end of its own', 'data: {"choices":[{"index":0,"delta":{},"text":"","finish_reason":"abort"}]}\n\n'],
      ['an error in the stream', 'data: {"error":{"message":"CUDA out of memory","code":500}}\n\n'],
    ])('%s ends the stream with an error, not the pool', async (_, comes) => {
      upstream.script = { after: { tokens: 2, comes } };
      const events = await collect(await chat({ max_completion_tokens: 5 }));
      expect(ofType(events, 'error')[0]?.error).toMatchObject({ status: 503 });
      expect(JSON.stringify(ofType(events, 'error')[0]?.error)).not.toContain('CUDA');
      expect(ofType(events, 'error')[0]?.receipt?.choices).toEqual([2]);
      await untilState(pool, 'warm');
      upstream.script = { text: 'ok' };
      expect(textOf(await collect(await chat()))).toBe('ok');
    });

    it('choices that nobody asked for are passed over', async () => {
      upstream.script = {
        after: { tokens: 1, comes: 'data: {"choices":[{"index":7,"delta":{"content":"y"},"text":"y"}]}\n\n' },
      };
      const events = await collect(await chat({ max_completion_tokens: 3 }));
      expect(textOf(events)).toBe('xxx');
    });
  });

  it('several choices and prompts are counted apart, or refused by name', async () => {
    if (!MAKES[make].choices) {
      const { status, json } = await chat({ n: 3, max_completion_tokens: 4 });
      expect(status).toBe(400);
      expect(errorOf({ json })).toMatchObject({ param: 'n', code: 'unsupported_parameter' });
      return;
    }
    const events = await collect(await chat({ n: 3, max_completion_tokens: 4 }));
    expect(ofType(events, 'done')[0]?.receipt).toMatchObject({ prompt_tokens: PROMPT_TOKENS, choices: [4, 4, 4] });
    const raw = await collect(await complete({ prompt: ['ab', 'cdef'], n: 2, max_tokens: 3 }));
    expect(ofType(raw, 'done')[0]?.receipt).toMatchObject({ prompt_tokens: 6, choices: [3, 3, 3, 3] });
    expect(follow(raw)).toBe(true);
  });

  it('a server that goes is cold, one that loads is waited for, and one that computes is warm', async () => {
    await upstream.kill();
    expect((await chat()).status).toBe(503);
    await untilState(pool, 'cold');
    upstream.loading = true;
    await upstream.start();
    await sleep(300);
    expect((await pool.status()).state).not.toBe('warm');
    upstream.loading = false;
    // Its port is open and its models are listed, but it can't compute.
    upstream.script = { mute: true };
    await untilState(pool, 'loading');
    await sleep(300);
    expect((await pool.status()).state).toBe('loading');
    upstream.script = {};
    await untilState(pool, 'warm');
    upstream.script = { text: 'back' };
    expect(textOf(await collect(await chat()))).toBe('back');
  });

  async function receiptOf(requestId: string | undefined): Promise<Receipt | undefined> {
    const answer = await askPool(pool.address, { method: 'GET', path: `/pool/receipts?request_id=${requestId}` });
    return answer.status === 404 ? undefined : receiptsAnswer.parse(answer.json).receipts[0];
  }
});

function errorOf({ json }: Pick<PoolAnswer, 'json'>): WireError {
  return (json as { error: WireError }).error;
}

function expectRefused(answer: PoolAnswer, param: string): void {
  expect([answer.status, errorOf(answer).code, errorOf(answer).param]).toEqual([400, 'unsupported_parameter', param]);
}

function textOf(events: readonly PoolEvent[]): string {
  return ofType(events, 'delta')
    .map(({ text }) => text)
    .join('');
}

function finishes(events: readonly PoolEvent[]): string[] {
  return ofType(events, 'delta').flatMap(({ finish_reason }) => finish_reason ?? []);
}

/** Whether each choice's deltas go on where the last ended. */
function follow(events: readonly PoolEvent[]): boolean {
  const next = new Map<number, number>();
  return ofType(events, 'delta').every((delta) => {
    const expected = next.get(delta.choice) ?? 0;
    next.set(delta.choice, expected + positionsOf(delta));
    return positionsOf(delta) === 0 || delta.position === expected;
  });
}
