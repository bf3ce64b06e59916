// The pool's HTTP contract, asked of a real process over the simulated runner through signed requests.
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BYTE_TEXT_BOS } from '../test/support/byteText.ts';
import { type PagedPool, startPagedPool } from '../test/support/pagedPool.ts';
import { type Ask, askPool, collect, inferenceContext, ofType } from '../test/support/signedPoolClient.ts';
import { type PoolEvent, poolStatus, receiptsAnswer } from './wire/events.ts';
import type { SignedContext } from './wire/signing.ts';

let pool: PagedPool;
beforeAll(async () => {
  pool = await startPagedPool({ section: { maxBodyBytes: 200_000 } });
});
afterAll(() => pool.close());

function ask(
  path: string,
  body?: unknown,
  context: Partial<SignedContext> = inferenceContext(),
  more: Partial<Ask> = {},
) {
  return askPool(pool.address, { path, body, context, ...more });
}

async function complete(body: Record<string, unknown>, context?: Partial<SignedContext>): Promise<PoolEvent[]> {
  const answer = await ask('/v1/completions', { model: 'bytes', seed: 1, ...body }, context);
  expect(answer.status, JSON.stringify(answer.json)).toBe(200);
  return collect(answer);
}

function idsOf(events: PoolEvent[], choice = 0): number[] {
  return ofType(events, 'delta').flatMap((delta) => (delta.choice === choice ? delta.ids : []));
}

function textOf(events: PoolEvent[], choice = 0): string {
  return ofType(events, 'delta')
    .map((delta) => (delta.choice === choice ? delta.text : ''))
    .join('');
}

/** Sends a body without a declared length until the server answers; tells how much it had to send. */
async function streamEndlessly(url: string): Promise<{ status: number | undefined; sentBytes: number }> {
  return new Promise((resolve, reject) => {
    let sentBytes = 0;
    const chunk = Buffer.alloc(65_536);
    const client = request(url, { method: 'POST' }, (response) => {
      resolve({ status: response.statusCode, sentBytes });
      client.destroy();
    });
    client.on('error', reject);
    const pump = () => {
      if (client.destroyed) return;
      if (sentBytes > 64 * 2 ** 20) return client.destroy(new Error('the server reads on and on'));
      sentBytes += chunk.length;
      if (client.write(chunk)) setImmediate(pump);
      else client.once('drain', pump);
    };
    pump();
  });
}

describe('a request that its gateway has given up', () => {
  const fence = async (requestId: string) => (await ask('/pool/fence', { request_id: requestId }, {})).json;
  const body = { model: 'bytes', prompt: 'late', max_tokens: 4, seed: 1 };

  it('is refused should it come after all; others are not', async () => {
    const [context, other] = [inferenceContext(), inferenceContext()];
    for (let i = 0; i < 2; i++) expect(await fence(context.requestId ?? '')).toEqual({ fenced: true });
    expect(await ask('/v1/completions', body, context)).toMatchObject({
      status: 503,
      json: { error: { code: 'no_pool_ready' } },
    });
    const path = `/pool/receipts?request_id=${context.requestId}`;
    expect((await ask(path, undefined, {}, { method: 'GET' })).status).toBe(404);
    expect((await complete({ prompt: 'late', max_tokens: 4 }, other)).at(-1)).toMatchObject({ type: 'done' });
  });

  it('is not, where the pool has it: its receipt tells', async () => {
    const context = inferenceContext();
    const answer = await ask('/v1/completions', { ...body, max_tokens: 100 }, context);
    expect(await fence(context.requestId ?? '')).toEqual({ fenced: false });
    expect((await collect(answer)).at(-1)).toMatchObject({ type: 'done' });
    expect(await fence(context.requestId ?? '')).toEqual({ fenced: false });
  });
});

describe('inference', () => {
  it('tells the exact prompt first, then deltas in order, then the receipt that settles', async () => {
    const events = await complete({ prompt: 'hello', max_tokens: 12 });
    expect(events[0]).toEqual({ type: 'prompt', prompts: [[...Buffer.from('hello')]], prompt_tokens: 5 });
    const deltas = ofType(events, 'delta');
    let position = 0;
    for (const delta of deltas) {
      expect(delta.position).toBe(position);
      position += delta.ids.length;
      expect(delta.usage.completion_tokens).toBe(position);
    }
    const finish = deltas.at(-1)?.finish_reason;
    expect(finish === 'stop' || position === 12).toBe(true);
    const done = ofType(events, 'done')[0];
    expect(events.at(-1)).toBe(done);
    expect(done?.receipt).toMatchObject({
      pool_id: 'pool-1',
      tenant: 'tenant-a',
      model: 'bytes',
      prompt_tokens: 5,
      choices: [position],
      outcome: 'completed',
    });
    expect(done?.usage).toEqual({ prompt_tokens: 5, cached_tokens: 0, completion_tokens: position });
  });

  it('renders a chat by the template, with developer as system', async () => {
    const messages = [
      { role: 'developer', content: 'be <end> brief' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'h' },
          { type: 'text', text: 'i' },
        ],
      },
    ];
    const answer = await ask('/v1/chat/completions', { model: 'bytes', messages, seed: 3, max_completion_tokens: 2 });
    const [prompt] = ofType(await collect(answer), 'prompt');
    const expected = [258, ...Buffer.from('system\nbe <end> brief'), 259, 258, ...Buffer.from('user\nhi'), 259];
    expect(prompt?.prompts).toEqual([[...expected, 258, ...Buffer.from('assistant\n')]]);
  });

  it('parses control tokens of a raw prompt', async () => {
    const [prompt] = ofType(await complete({ prompt: 'a<end>', max_tokens: 1 }), 'prompt');
    expect(prompt?.prompts).toEqual([[97, 259]]);
  });

  it('serves every prompt n times, each choice with noise of its own, the same ones at every call', async () => {
    const body = {
      prompt: [
        [97, 98, 99],
        [1, 2],
      ],
      n: 3,
      max_tokens: 6,
      seed: 42,
    };
    const [first, second] = [await complete(body), await complete(body)];
    const choices = [0, 1, 2, 3, 4, 5].map((choice) => idsOf(first, choice));
    expect(choices).toEqual([0, 1, 2, 3, 4, 5].map((choice) => idsOf(second, choice)));
    expect(new Set(choices.map(String)).size).toBe(6);
    expect(ofType(first, 'delta').filter((delta) => delta.finish_reason)).toHaveLength(6);
    expect(ofType(first, 'done')[0]?.receipt).toMatchObject({
      prompt_tokens: 5,
      choices: choices.map((c) => c.length),
    });
  });

  it('cuts the text before a stop string, and releases no id behind the one that completed it', async () => {
    const free = await complete({ prompt: 'stop me', max_tokens: 60, temperature: 0 });
    const ids = idsOf(free);
    const whole = textOf(free);
    const stop = whole.slice(20, 24);
    const cut = whole.indexOf(stop);
    const events = await complete({ prompt: 'stop me', max_tokens: 60, temperature: 0, stop: ['never there', stop] });
    expect(textOf(events)).toBe(whole.slice(0, cut));
    const released = idsOf(events);
    expect(released).toEqual(ids.slice(0, released.length));
    const decoded = (count: number) =>
      new TextDecoder().decode(Uint8Array.from(ids.slice(0, count).filter((id) => id < 256)));
    expect(decoded(released.length)).toContain(stop);
    expect(decoded(released.length - 1)).not.toContain(stop);
    const last = ofType(events, 'delta').at(-1);
    expect(last?.finish_reason).toBe('stop');
    expect(ofType(events, 'done')[0]?.receipt.choices).toEqual([released.length]);
  });

  it('gives logprobs with bytes for each id, and the alternatives asked for', async () => {
    const events = await complete({ prompt: 'x', max_tokens: 5, logprobs: 3 });
    for (const delta of ofType(events, 'delta'))
      for (const [i, entry] of (delta.logprobs ?? []).entries()) {
        const id = delta.ids[i]!;
        expect(entry.id).toBe(id);
        expect(entry.bytes).toEqual(id < 256 ? [id] : [...Buffer.from(entry.token)]);
        expect(entry.top).toHaveLength(3);
        expect(entry.logprob).toBeLessThanOrEqual(0);
        expect(entry.top[0]!.logprob).toBeGreaterThanOrEqual(entry.top[1]!.logprob);
      }
    expect(ofType(events, 'delta').flatMap((delta) => delta.logprobs ?? [])).toHaveLength(idsOf(events).length);
  });

  it('scores a prompt and generates nothing at max_tokens 0, in order, the first token without a logprob', async () => {
    const prompt = 'score this prompt, please: it is longer than one step and one event'.repeat(5);
    const events = await complete({ prompt, max_tokens: 0, echo: true, logprobs: 1 });
    const tokens = ofType(events, 'prompt_logprobs').flatMap((event) => event.tokens);
    expect(tokens.map((token) => token.id)).toEqual([...Buffer.from(prompt)]);
    expect(tokens[0]?.logprob).toBeNull();
    expect(tokens.slice(1).every((token) => token.logprob !== null && token.top.length === 1)).toBe(true);
    expect(ofType(events, 'delta')).toMatchObject([{ choice: 0, ids: [], finish_reason: 'length' }]);
    expect(ofType(events, 'done')[0]?.receipt).toMatchObject({ choices: [0], outcome: 'completed' });
  });

  it('echoes the texts of a prompt without logprobs, too, as the gateway has no tokeniser', async () => {
    const events = await complete({ prompt: [[104, 105]], max_tokens: 0, echo: true });
    const tokens = ofType(events, 'prompt_logprobs').flatMap((event) => event.tokens);
    expect(tokens).toEqual([
      { id: 104, token: 'h', bytes: [104], logprob: null, top: [] },
      { id: 105, token: 'i', bytes: [105], logprob: null, top: [] },
    ]);
    expect(ofType(events, 'done')[0]?.receipt).toMatchObject({ prompt_tokens: 2, choices: [0] });
  });

  it('answers an empty prompt from the beginning-of-sequence token', async () => {
    expect(ofType(await complete({ prompt: '', max_tokens: 1 }), 'prompt')[0]?.prompts).toEqual([[BYTE_TEXT_BOS]]);
  });

  it('finds a prompt again in the cache of its scope, and bills the same prompt tokens', async () => {
    const prompt = 'a prefix of several blocks, which the second request shares '.repeat(2);
    const context = { ...inferenceContext(), cacheScope: 'scope-a' };
    const first = await complete({ prompt, max_tokens: 4 }, context);
    const second = await complete({ prompt, max_tokens: 4, n: 2 }, { ...inferenceContext(), cacheScope: 'scope-a' });
    const other = await complete({ prompt, max_tokens: 4 }, { ...inferenceContext(), cacheScope: 'scope-b' });
    const off = await complete(
      { prompt, max_tokens: 4, cache: false },
      { ...inferenceContext(), cacheScope: 'scope-a' },
    );
    const cached = (events: PoolEvent[]) => ofType(events, 'done')[0]?.receipt.cached_tokens;
    expect([first, second, other, off].map(cached)).toEqual([0, 119, 0, 0]);
    expect(ofType(second, 'done')[0]?.receipt.prompt_tokens).toBe(prompt.length);
    expect(idsOf(second)).toEqual(idsOf(first));
  });
});

describe('the hold', () => {
  it('is never passed, over all choices', async () => {
    const context = { ...inferenceContext(), holdTokens: 3 + 7 };
    const events = await complete(
      { prompt: 'abc', n: 3, max_tokens: 50, temperature: 0, logit_bias: { 257: -100 } },
      context,
    );
    expect([0, 1, 2].map((choice) => idsOf(events, choice).length)).toEqual([3, 2, 2]);
    expect(
      ofType(events, 'delta')
        .filter((d) => d.finish_reason)
        .map((d) => d.finish_reason),
    ).toEqual(Array(3).fill('length'));
  });

  it('bounds an absent max_tokens', async () => {
    const context = { ...inferenceContext(), holdTokens: 12 };
    expect(idsOf(await complete({ prompt: 'ab', logit_bias: { 257: -100 } }, context))).toHaveLength(10);
  });

  it('refuses what it has no room for', async () => {
    const answer = await ask(
      '/v1/completions',
      { model: 'bytes', prompt: 'abcdef', max_tokens: 1 },
      { ...inferenceContext(), holdTokens: 6 },
    );
    expect(answer).toMatchObject({ status: 400, json: { error: { code: 'hold_too_small' } } });
  });
});

describe('refusals', () => {
  const cases: [string, string, Record<string, unknown>, Record<string, unknown>][] = [
    [
      'an unknown field',
      '/v1/completions',
      { prompt: 'a', suffix: 'b' },
      { status: 400, param: 'suffix', code: 'unsupported_parameter' },
    ],
    [
      'a wrong type deep inside',
      '/v1/chat/completions',
      { messages: [{ role: 'robot', content: 'a' }] },
      { status: 400, param: 'messages.0.role' },
    ],
    ['a value out of range', '/v1/completions', { prompt: 'a', temperature: 3 }, { status: 400, param: 'temperature' }],
    ['an id outside the vocabulary', '/v1/completions', { prompt: [1, 260] }, { status: 400, param: 'prompt' }],
    [
      'a bias outside the vocabulary',
      '/v1/completions',
      { prompt: 'a', logit_bias: { 260: 1 } },
      { status: 400, param: 'logit_bias' },
    ],
    [
      'max_tokens 0 without echo',
      '/v1/completions',
      { prompt: 'a', max_tokens: 0 },
      { status: 400, param: 'max_tokens' },
    ],
    [
      'top_logprobs without logprobs',
      '/v1/chat/completions',
      { messages: [{ role: 'user', content: 'a' }], top_logprobs: 2 },
      { status: 400, param: 'top_logprobs' },
    ],
    ['too many choices', '/v1/completions', { prompt: Array(20).fill('a'), n: 16 }, { status: 400, param: 'n' }],
    [
      'what the template refuses',
      '/v1/chat/completions',
      { messages: [{ role: 'user', content: 'REFUSE' }] },
      { status: 400, param: 'messages' },
    ],
    [
      'prompt and output over the context',
      '/v1/completions',
      { prompt: 'a'.repeat(500), max_tokens: 13 },
      { status: 400, param: 'prompt', code: 'context_length_exceeded' },
    ],
    [
      'text that is hopelessly long, before it is tokenised',
      '/v1/completions',
      { prompt: 'a'.repeat(5000) },
      { status: 400, code: 'context_length_exceeded', message: expect.stringMatching(/at least \d+ tokens/) },
    ],
    [
      'a salt, which the gateway resolves',
      '/v1/completions',
      { prompt: 'a', cache_salt: 's' },
      { status: 400, param: 'cache_salt' },
    ],
    [
      'another model',
      '/v1/completions',
      { model: 'other', prompt: 'a' },
      { status: 404, param: 'model', code: 'model_not_found' },
    ],
  ];
  it.each(cases)('%s', async (_, path, body, { status, ...error }) => {
    const answer = await ask(path, { model: 'bytes', ...body });
    expect(answer).toMatchObject({ status, json: { error } });
    expect(answer.headers.get('hearth-signature')).not.toBeNull();
  });

  it('names the numbers when the context is too short', async () => {
    const { json } = await ask('/v1/completions', { model: 'bytes', prompt: 'a'.repeat(500), max_tokens: 13 });
    expect(json).toMatchObject({
      error: { message: expect.stringMatching(/512 tokens.*513 tokens \(500 in the prompt, 13 /) },
    });
  });

  it.each(['requestId', 'tenant', 'deadlineMs', 'holdTokens'] as const)('an inference without %s', async (field) => {
    const { [field]: _, ...context } = inferenceContext();
    expect((await ask('/v1/completions', { model: 'bytes', prompt: 'a' }, context)).status).toBe(400);
  });

  it.each([
    ['hearth-cache-seal', { cacheSeal: 'ab' }],
    ['hearth-cache-scope', { cacheScope: 's'.repeat(129) }],
    ['hearth-kv-floor', { kvFloorShare: 1.5 }],
    ['hearth-weight', { weight: 0 }],
  ])('an inference whose %s makes no sense', async (param, wrong) => {
    const context = { ...inferenceContext(), cacheScope: 's', ...wrong };
    const answer = await ask('/v1/completions', { model: 'bytes', prompt: 'a' }, context);
    expect(answer).toMatchObject({ status: 400, json: { error: { param } } });
  });

  it('a body over the limit, by its declared length and while it is read', async () => {
    const big = 'x'.repeat(300_000);
    expect(await ask('/v1/completions', { model: 'bytes', prompt: big })).toMatchObject({
      status: 413,
      json: { error: { code: 'request_too_large' } },
    });
    expect(await streamEndlessly(`${pool.address.url}/v1/completions`)).toMatchObject({ status: 413 });
  });

  it('a body that is not JSON, unsigned requests, replays, and a request id that has a receipt', async () => {
    expect((await fetch(`${pool.address.url}/pool/status`)).status).toBe(401);
    const context = inferenceContext();
    const nonce = 'ab'.repeat(16);
    await collect(await ask('/v1/completions', { model: 'bytes', prompt: 'a', max_tokens: 1 }, { ...context, nonce }));
    expect(
      (await ask('/v1/completions', { model: 'bytes', prompt: 'a' }, { ...inferenceContext(), nonce })).status,
    ).toBe(401);
    expect((await ask('/v1/completions', { model: 'bytes', prompt: 'a' }, context)).status).toBe(409);
  });

  it('a deadline that has passed', async () => {
    const late = await ask(
      '/v1/completions',
      { model: 'bytes', prompt: 'a' },
      { ...inferenceContext(), deadlineMs: Date.now() - 1 },
    );
    expect(late).toMatchObject({ status: 504, json: { error: { code: 'deadline_exceeded' } } });
  });

  it('more than the engine’s queue takes: nothing of the request stays', async () => {
    const bounds = { maxRunning: 1, maxWaiting: 2, maxWaitingPerTenant: 2 };
    const small = await startPagedPool({ model: { stepMs: 20 }, section: { bounds } });
    try {
      const body = { model: 'bytes', prompt: 'a', max_tokens: 10, seed: 1, logit_bias: { 257: -100 } };
      const send = (n: number, context = inferenceContext()) =>
        askPool(small.address, { path: '/v1/completions', body: { ...body, n }, context });
      const first = await send(3); // one runs, two wait
      const context = inferenceContext();
      const refused = await send(2, context);
      expect(refused).toMatchObject({ status: 503, json: { error: { code: 'overloaded' } } });
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
      const receipts = `/pool/receipts?request_id=${context.requestId}`;
      expect((await askPool(small.address, { method: 'GET', path: receipts })).status).toBe(404);
      expect(ofType(await collect(first), 'done')[0]?.receipt.choices).toEqual([10, 10, 10]);
      const again = await send(2, context);
      expect(ofType(await collect(again), 'done')[0]?.receipt.choices).toEqual([10, 10]);
    } finally {
      await small.close();
    }
  });
});

describe('the other routes', () => {
  it('count tokens exactly as the inference would', async () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const counted = await ask('/pool/count', { model: 'bytes', messages });
    const [prompt] = ofType(
      await collect(await ask('/v1/chat/completions', { model: 'bytes', messages, max_tokens: 1, seed: 1 })),
      'prompt',
    );
    expect(counted.json).toEqual({ prompt_tokens: [prompt?.prompt_tokens] });
    expect((await ask('/pool/count', { model: 'bytes', prompt: ['a', 'b<eos>'] })).json).toEqual({
      prompt_tokens: [1, 2],
    });
  });

  it('list receipts in pages, one by its id, and forget what is acknowledged', async () => {
    const contexts = [inferenceContext(), inferenceContext(), inferenceContext()];
    for (const context of contexts) await complete({ prompt: 'abc', max_tokens: 1 }, context);
    const ids = contexts.map((context) => context.requestId);
    const list = async (query: string) =>
      receiptsAnswer.parse((await ask(`/pool/receipts?${query}`, undefined, {}, { method: 'GET' })).json);
    const all = (await list('limit=1000')).receipts.map((receipt) => receipt.request_id);
    expect(all.slice(-3)).toEqual(ids);
    const before = all.at(-4);
    const page = await list(`limit=2&after=${before ?? 'none'}`);
    expect(page.receipts.map((receipt) => receipt.request_id)).toEqual(ids.slice(0, 2));
    expect(page.has_more).toBe(true);
    expect((await list(`request_id=${ids[1]}`)).receipts).toMatchObject([{ outcome: 'completed', choices: [1] }]);
    const body = { request_ids: [ids[1], ids[1], 'unknown'] };
    const acknowledge = () => ask('/pool/receipts', body, {}, { method: 'DELETE' });
    expect([(await acknowledge()).json, (await acknowledge()).json]).toEqual([
      { acknowledged: 1 },
      { acknowledged: 0 },
    ]);
    const gone = await ask(`/pool/receipts?request_id=${ids[1]}`, undefined, {}, { method: 'GET' });
    expect(gone).toMatchObject({ status: 404, json: { error: { code: 'not_found' } } });
  });

  it('tell health, status and metrics', async () => {
    const get = async (path: string) => (await fetch(`${pool.address.url}${path}`)).status;
    expect([await get('/health/live'), await get('/health/ready'), await get('/nowhere')]).toEqual([200, 200, 404]);
    const status = poolStatus.parse((await ask('/pool/status', undefined, {}, { method: 'GET' })).json);
    expect(status).toMatchObject({ state: 'warm', adapter: 'paged runner', blocks_total: 256, running: 0, waiting: 0 });
    expect(status.models).toMatchObject([{ id: 'bytes', context_length: 512, fingerprint: 'paged-runner-1' }]);
    await complete({ prompt: 'abc', max_tokens: 3, logit_bias: { 257: -100 } });
    const text = await (await fetch(`${pool.address.url}/metrics`)).text();
    const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
    expect(value('hearth_pool_output_tokens_total')).toBeGreaterThanOrEqual(3);
    expect(value('hearth_pool_step_seconds_count')).toBeGreaterThanOrEqual(3);
    expect(value('hearth_pool_ttft_seconds_count')).toBeGreaterThanOrEqual(1);
    expect(value('hearth_pool_blocks_total\\{model="bytes"\\}')).toBe(256);
    expect(value('hearth_pool_refusals_total\\{code="context_length_exceeded"\\}')).toBeGreaterThanOrEqual(1);
    expect(text).not.toMatch(/tenant-a|req-/);
  });
});
