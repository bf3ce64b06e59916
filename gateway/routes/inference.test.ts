// The inference routes through the app itself, against a real pool process double on loopback: shapes, errors, bills and holds.
import type OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';

let rig: GatewayRig;
let tenant: Tenant;

beforeEach(async () => {
  rig = await GatewayRig.start();
  tenant = await rig.tenant([{ window: 'day', limit_tokens: 10_000 }]);
});
afterEach(async () => {
  const inFlight = rig.ports.registry.pools.map((pool) => pool.inFlight.count(Date.now()));
  await rig.stop();
  expect(inFlight, 'every relay has let go of its pool').toEqual([0]);
});

const chat = (extra: object = {}) => ({
  model: 'tiny',
  messages: [{ role: 'user', content: 'Hi' }],
  max_tokens: 3,
  ...extra,
});

const post = (path: string, body: unknown, signal?: AbortSignal) =>
  rig.request('POST', path, { key: tenant.key, body, ...(signal && { signal }) });

const chatOf = (response: Response) => bodyOf<OpenAI.ChatCompletion>(response);
const completionOf = (response: Response) => bodyOf<OpenAI.Completion>(response);

interface Told {
  data: Record<string, unknown>[];
  done: boolean;
}

async function eventsOf(response: Response): Promise<Told> {
  const lines = (await response.text())
    .split('\n\n')
    .filter(Boolean)
    .map((event) => event.replace(/^data: /, ''));
  const done = lines.at(-1) === '[DONE]';
  return { done, data: (done ? lines.slice(0, -1) : lines).map((line) => JSON.parse(line)) };
}

/** What the chunks of one choice say. */
function textOf(data: readonly Record<string, unknown>[]): string {
  const chunks = data as { choices?: { delta: { content?: string } }[] }[];
  return chunks.map(({ choices }) => choices?.[0]?.delta.content ?? '').join('');
}

describe('chat', () => {
  test('a whole answer has text, usage, fingerprint and its headers', async () => {
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(200);
    const answer = await bodyOf(response);
    expect(answer).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{24}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'tiny',
      system_fingerprint: 'fp_scripted',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: ' w0 w1 w2', refusal: null },
          logprobs: null,
          finish_reason: 'length',
        },
      ],
      usage: {
        ...{ prompt_tokens: 9, completion_tokens: 3, total_tokens: 12, prompt_tokens_details: { cached_tokens: 2 } },
        completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
      },
    });
    expect(response.headers.get('x-request-id')).toMatch(/^req_/);
    expect(response.headers.get('openai-processing-ms')).toMatch(/^\d+$/);
    expect(response.headers.get('x-ratelimit-limit-tokens')).toBe('10000');
    expect(response.headers.get('x-ratelimit-reset-tokens')).toMatch(/^(\d+h)?(\d+m)?\d+m?s$/);
  });

  test('a stream begins with the role, ends with the reason, the usage and [DONE]', async () => {
    const response = await post(
      '/v1/chat/completions',
      chat({ stream: true, stream_options: { include_usage: true } }),
    );
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const { data, done } = await eventsOf(response);
    expect(done).toBe(true);
    const choice = (delta: object, finish_reason: string | null = null) => [
      { index: 0, delta, logprobs: null, finish_reason },
    ];
    expect(data.map(({ choices, usage }) => ({ choices, usage }))).toEqual([
      { choices: choice({ role: 'assistant', content: '', refusal: null }), usage: null },
      { choices: choice({ content: ' w0' }), usage: null },
      { choices: choice({ content: ' w1' }), usage: null },
      { choices: choice({ content: ' w2' }), usage: null },
      { choices: choice({}, 'length'), usage: null },
      {
        choices: [],
        usage: {
          prompt_tokens: 9,
          completion_tokens: 3,
          total_tokens: 12,
          prompt_tokens_details: { cached_tokens: 2 },
          completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
        },
      },
    ]);
    expect(new Set(data.map(({ object }) => object))).toEqual(new Set(['chat.completion.chunk']));
  });

  test('without include_usage no chunk speaks of usage', async () => {
    const { data } = await eventsOf(await post('/v1/chat/completions', chat({ stream: true })));
    expect(data.some((chunk) => 'usage' in chunk)).toBe(false);
  });

  test('several choices keep their own text', async () => {
    rig.pool.script = { tokens: ['a', 'b'] };
    const answer = await chatOf(await post('/v1/chat/completions', chat({ n: 3, max_tokens: 5 })));
    expect(answer.choices.map(({ message }) => message.content)).toEqual(['ab', 'ab', 'ab']);
    expect(answer.choices[2]?.finish_reason).toBe('stop');
    expect(answer.usage?.completion_tokens).toBe(6);
  });

  test('logprobs have the chat shape', async () => {
    const answer = await chatOf(
      await post('/v1/chat/completions', chat({ logprobs: true, top_logprobs: 2, max_tokens: 1 })),
    );
    expect(answer.choices[0]?.logprobs).toEqual({
      content: [
        {
          token: ' w0',
          logprob: -0.25,
          bytes: [32, 119, 48],
          top_logprobs: [
            { token: ' w0', logprob: -0.25, bytes: [32, 119, 48] },
            { token: '~', logprob: -2, bytes: [126] },
          ],
        },
      ],
      refusal: null,
    });
  });

  test('the pool gets a seed, the bound and the scope, and nothing about the user', async () => {
    await post('/v1/chat/completions', chat({ user: 'alice', metadata: { a: 'b' }, max_tokens: undefined }));
    const sent = rig.pool.requests[0];
    expect(sent?.body).toMatchObject({ max_completion_tokens: 64, seed: expect.any(Number) });
    expect(JSON.stringify(sent?.body)).not.toMatch(/alice|metadata|stream/);
    expect(sent?.context.cacheScope).toMatch(/^[0-9a-f]{32}$/);
    expect(sent?.context.cacheScope).not.toContain(tenant.id);
    const other = await rig.tenant();
    await rig.request('POST', '/v1/chat/completions', { key: other.key, body: chat() });
    expect(rig.pool.requests[1]?.context.cacheScope).not.toBe(sent?.context.cacheScope);
  });
});

describe('order and time', () => {
  test.each([
    [{}, 0, undefined],
    [{ priority: -7 }, -7, undefined],
    [{ service_tier: 'auto', priority: 100 }, 100, 'default'],
    [{ service_tier: 'flex', priority: 100 }, -900, 'flex'],
    [{ service_tier: 'priority', priority: -100 }, 900, 'priority'],
  ])('%o is signed as priority %i, and told as tier %s', async (asked, priority, tier) => {
    const answer = await post('/v1/chat/completions', chat(asked));
    expect(rig.pool.requests[0]?.context.priority).toBe(priority);
    expect(rig.pool.requests[0]?.body).not.toHaveProperty('service_tier');
    expect((await bodyOf<{ service_tier?: string }>(answer)).service_tier).toBe(tier);
  });

  test('a tier that nobody knows is refused by name', async () => {
    const answer = await post('/v1/chat/completions', chat({ service_tier: 'gold' }));
    expect(answer.status).toBe(400);
    expect(await bodyOf(answer)).toMatchObject({ error: { param: 'service_tier' } });
  });

  const within = (timeout: string) =>
    rig.request('POST', '/v1/chat/completions', {
      key: tenant.key,
      body: chat(),
      headers: { 'x-request-timeout-ms': timeout },
    });

  test("a client's own time is the deadline that is signed, and never later than the gateway's", async () => {
    const startedMs = Date.now();
    await within('5000');
    await within('999999999');
    const [own, most] = rig.pool.requests.map(({ context }) => (context.deadlineMs ?? 0) - startedMs);
    expect(own).toBeGreaterThanOrEqual(5000);
    expect(own).toBeLessThan(8000);
    expect(most).toBeGreaterThan(55_000);
    expect(most).toBeLessThan(65_000);
  });

  test.each(['0', '-5', '1.5', 'soon', '1e3', ''])('a time of %j is refused by name', async (timeout) => {
    const answer = await within(timeout);
    expect(answer.status).toBe(400);
    expect(await bodyOf(answer)).toMatchObject({ error: { param: 'x-request-timeout-ms' } });
    expect(rig.pool.requests).toEqual([]);
  });
});

describe('completions', () => {
  test('echo with logprobs puts the prompt first, in text and tokens', async () => {
    const body = { model: 'tiny', prompt: 'né', max_tokens: 1, echo: true, logprobs: 1 };
    const answer = await completionOf(await post('/v1/completions', body));
    expect(answer.choices).toEqual([
      {
        index: 0,
        text: 'né w0',
        finish_reason: 'length',
        logprobs: {
          tokens: ['n', 'é', ' w0'],
          token_logprobs: [null, -0.5, -0.25],
          top_logprobs: [null, { é: -0.5, '~': -2 }, { ' w0': -0.25, '~': -2 }],
          text_offset: [0, 1, 2],
        },
      },
    ]);
    expect(answer.object).toBe('text_completion');
  });

  test('a stream with echo joins to what a whole answer says', async () => {
    const body = { model: 'tiny', prompt: ['ab', 'xyz'], n: 2, max_tokens: 2, echo: true, logprobs: 0, seed: 1 };
    const whole = await completionOf(await post('/v1/completions', body));
    const { data } = await eventsOf(await post('/v1/completions', { ...body, stream: true }));
    for (const index of [0, 1, 2, 3]) {
      const mine = data.flatMap(
        ({ choices }) => choices as { index: number; text: string; logprobs: { tokens: string[] } | null }[],
      );
      const pieces = mine.filter((choice) => choice.index === index);
      expect(pieces.map(({ text }) => text).join('')).toBe(whole.choices[index]?.text);
      expect(pieces.flatMap(({ logprobs }) => logprobs?.tokens ?? [])).toEqual(whole.choices[index]?.logprobs?.tokens);
    }
    expect(whole.choices.map(({ text }) => text)).toEqual(['ab w0 w1', 'ab w0 w1', 'xyz w0 w1', 'xyz w0 w1']);
  });

  test('max_tokens 0 with echo scores the prompt and generates nothing', async () => {
    const body = { model: 'tiny', prompt: [104, 105], max_tokens: 0, echo: true, logprobs: 1 };
    const answer = await completionOf(await post('/v1/completions', body));
    expect(answer.choices[0]).toMatchObject({
      text: 'hi',
      finish_reason: 'length',
      logprobs: { token_logprobs: [null, -0.5] },
    });
    expect(answer.usage).toMatchObject({ prompt_tokens: 2, completion_tokens: 0 });
  });

  test('token ids count exactly, so their hold never needs a count', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 5 }]);
    const response = await post('/v1/completions', { model: 'tiny', prompt: [1, 2, 3], max_tokens: 2 });
    expect(response.status).toBe(200);
    expect(rig.pool.counted).toBe(0);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 5, held: 0, remaining: 0 });
  });
});

describe('refusals', () => {
  const cases: [string, unknown, number, object][] = [
    ['bad JSON', '{', 400, { type: 'invalid_request_error', param: null, code: null }],
    ['an unknown field', chat({ temprature: 1 }), 400, { param: 'temprature', code: 'unsupported_parameter' }],
    [
      'where a pool goes on, which is for the gateway to say',
      chat({ resume: { fingerprint: 'f', prompts: [[1]], choices: [], prompt_logprobs: [], usage: {} } }),
      400,
      { param: 'resume', code: 'unsupported_parameter' },
    ],
    [
      'a nested unknown field',
      chat({ messages: [{ role: 'user', content: 'x', x: 1 }] }),
      400,
      { param: 'messages.0.x', code: 'unsupported_parameter' },
    ],
    [
      'a wrong role',
      chat({ messages: [{ role: 'robot', content: 'x' }] }),
      400,
      { param: 'messages.0.role', code: null },
    ],
    [
      'a wrong part',
      chat({ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }),
      400,
      { param: 'messages.0.content.0.type' },
    ],
    ['a number out of range', chat({ temperature: 3 }), 400, { param: 'temperature', code: null }],
    [
      'too many stop strings',
      chat({ stop: Array.from({ length: 17 }, () => 'x') }),
      400,
      { param: 'stop', message: expect.stringMatching(/Too big/) },
    ],
    [
      'an empty stop string',
      chat({ stop: [''] }),
      400,
      { param: 'stop.0', message: expect.stringMatching(/Too small/) },
    ],
    ['a penalty that could overflow', chat({ repetition_penalty: 1e-300 }), 400, { param: 'repetition_penalty' }],
    ['more than the context', chat({ max_tokens: 5000 }), 400, { code: 'context_length_exceeded' }],
    ['an unknown model', chat({ model: 'gpt-17' }), 404, { code: 'model_not_found', param: 'model' }],
    ['a body over the limit', chat({ user: 'x'.repeat(70_000) }), 413, { code: 'request_too_large' }],
  ];
  test.each(cases)('%s', async (_, body, status, error) => {
    const response = await post('/v1/chat/completions', body);
    const answer = await bodyOf(response);
    expect({ status: response.status, ...answer }).toMatchObject({ status, error });
    expect(Object.keys(answer.error).sort()).toEqual(['code', 'message', 'param', 'type']);
    expect(rig.pool.requests).toEqual([]);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 0, held: 0 });
  });

  test("a ledger that can't be written refuses to be retried, and holds nothing; then all is well again", async () => {
    rig.db.exec('PRAGMA query_only = 1');
    const response = await post('/v1/chat/completions', chat());
    const { error } = await bodyOf(response);
    expect({ status: response.status, ...error }).toMatchObject({
      status: 503,
      type: 'server_error',
      code: 'overloaded',
    });
    expect(response.headers.get('retry-after')).toBe('5');
    expect(rig.pool.requests).toEqual([]);
    rig.db.exec('PRAGMA query_only = 0');
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
  });

  test('a body that declares itself too large is refused unread', async () => {
    let read = 0;
    const body = new ReadableStream<Uint8Array>(
      { pull: (controller) => controller.enqueue(new Uint8Array(++read)) },
      { highWaterMark: 0 },
    );
    const headers = { authorization: `Bearer ${tenant.key}`, 'content-length': '70000' };
    const response = await rig.send(
      new Request('http://gateway/v1/completions', { method: 'POST', headers, body, duplex: 'half' }),
    );
    expect(response.status).toBe(413);
    expect(read).toBe(0);
  });

  test('whoever has no valid key hears only that, whatever else is wrong', async () => {
    for (const key of [
      undefined,
      'sk-hello',
      `${tenant.key.slice(0, -1)}${tenant.key.endsWith('1') ? '2' : '1'}`,
      rig.ports.keyring.adminKey,
    ]) {
      const response = await rig.request('POST', '/v1/chat/completions', { ...(key && { key }), body: chat() });
      expect(response.status).toBe(401);
      expect((await bodyOf(response)).error.code).toBe('invalid_api_key');
    }
    await rig.admin('DELETE', `/projects/${tenant.id}/api_keys/${tenant.keyId}`);
    for (const body of [chat(), chat({ model: 'gpt-17' }), '{'])
      expect((await post('/v1/chat/completions', body)).status).toBe(401);
  });

  test('no pool ready is a 503 with a time to retry', async () => {
    rig.pool.state = 'draining';
    await rig.refresh();
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(503);
    expect((await bodyOf(response)).error).toMatchObject({ type: 'server_error', code: 'no_pool_ready' });
    await rig.admin('POST', `/projects/${tenant.id}/api_keys/${tenant.keyId}`, { allowed_models: ['other'] });
    expect((await post('/v1/chat/completions', chat())).status, 'whoever may not use it hears that').toBe(403);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await rig.request('GET', '/readyz')).status).toBe(503);
  });

  test("the pool's own refusal reaches the client, and costs nothing", async () => {
    const error = { message: 'Too many.', type: 'server_error', param: null, code: 'overloaded' };
    rig.pool.script = { refuse: { ...error, status: 503, resumable: true } };
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(503);
    expect((await bodyOf(response)).error, 'without what is between pool and gateway').toEqual(error);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 0, held: 0 });
    expect(await rig.entries()).toMatchObject([{ outcome: 'refused', inputTokens: 0, outputTokens: 0 }]);
  });

  test('what only a wrong gateway can cause is a 500 that tells nothing', async () => {
    rig.pool.script = {
      refuse: { message: 'secret detail', type: 'x', param: null, code: 'duplicate_request', status: 409 },
    };
    const response = await post('/v1/chat/completions', chat());
    expect(response.status).toBe(500);
    expect(JSON.stringify(await bodyOf(response))).not.toContain('secret detail');
  });
});

test('every answer tells its request id and its time, whatever route or refusal it comes of', async () => {
  const refused = { message: 'No.', type: 'server_error', param: null, code: 'overloaded', status: 503 };
  const asked = async (path: string, body: object, key = tenant.key) => rig.request('POST', path, { key, body });
  const answers = [
    await asked('/v1/chat/completions', chat()),
    await asked('/v1/chat/completions', chat({ stream: true })),
    await asked('/v1/completions', { model: 'tiny', prompt: 'a', max_tokens: 2 }),
    await asked('/v1/chat/completions', chat({ n: 0 })),
    await asked('/v1/chat/completions', chat(), 'sk-nobody'),
    await asked('/v1/nothing', {}),
    await rig.request('GET', '/v1/models', { key: tenant.key }),
  ];
  rig.pool.script = { refuse: refused };
  answers.push(
    await asked('/v1/chat/completions', chat()),
    await asked('/v1/chat/completions', chat({ stream: true })),
  );
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 400, 401, 404, 200, 503, 503]);
  const ids = answers.map(({ headers }) => headers.get('x-request-id'));
  expect(new Set(ids).size).toBe(answers.length);
  for (const [i, { headers }] of answers.entries()) {
    expect(ids[i]).toMatch(/^req_[0-9a-f]{24}$/);
    expect(headers.get('openai-processing-ms')).toMatch(/^\d+$/);
  }
  await Promise.all(answers.map((answer) => answer.text()));
});

describe('how a request ends', () => {
  const failure = { status: 500, message: 'It broke.', type: 'server_error', param: null, code: 'internal_error' };

  test.each([false, true])(
    'an error after the first byte is an event without [DONE], and what was released is billed (in one go: %s)',
    async (atOnce) => {
      const error = { ...failure, status: 504, code: 'deadline_exceeded' };
      rig.pool.script = { atOnce, failAfter: { tokens: 2, error } };
      const { data, done } = await eventsOf(await post('/v1/chat/completions', chat({ stream: true, max_tokens: 9 })));
      expect(done).toBe(false);
      expect(textOf(data)).toBe(' w0 w1');
      expect(data.at(-1)).toMatchObject({ error: { type: 'server_error', code: 'deadline_exceeded' } });
      expect(await rig.entries()).toMatchObject([{ outcome: 'failed', inputTokens: 9, outputTokens: 2 }]);
    },
  );

  test.each([
    ...[['signature', false, ' w0'] as const, ['cut', false, ''] as const],
    ...[['position', false, ' w0'] as const, ['receipt', false, ' w0 w1 w2'] as const],
    ...[['position', true, ' w0'] as const, ['receipt', true, ' w0 w1 w2'] as const],
  ])(
    'a stream that is wrong by its %s (in one go: %s) says what came before, ends in an error and is settled by receipt',
    async (how, atOnce, before) => {
      rig.pool.script = { atOnce, tamper: { event: how === 'receipt' ? 4 : 2, how } };
      const { data, done } = await eventsOf(await post('/v1/chat/completions', chat({ stream: true })));
      expect(done).toBe(false);
      expect(textOf(data)).toBe(before);
      expect(data.at(-1)).toHaveProperty('error');
      await rig.unheld();
      expect(await rig.entries()).toHaveLength(1);
    },
  );

  test('a stream that counts without ids is held to its positions like any other', async () => {
    rig.pool.script = { countsOnly: true };
    const { data } = await eventsOf(await post('/v1/chat/completions', chat({ stream: true })));
    expect(textOf(data)).toBe(' w0 w1 w2');
    rig.pool.script = { countsOnly: true, tamper: { event: 2, how: 'position' } };
    const wrong = await eventsOf(await post('/v1/chat/completions', chat({ stream: true })));
    expect([textOf(wrong.data), wrong.done]).toEqual([' w0', false]);
    await rig.unheld();
  });

  test.each(['signature', 'cut'] as const)(
    'of what came in one go and is wrong by its %s nothing is believed',
    async (how) => {
      rig.pool.script = { atOnce: true, tamper: { event: 2, how } };
      const answer = await post('/v1/chat/completions', chat({ stream: true }));
      expect(answer.status).toBe(503);
      await rig.unheld();
      expect(await rig.entries()).toHaveLength(1);
    },
  );

  test('an answer that came in one go is the same, streamed or whole, and billed once', async () => {
    rig.pool.script = { atOnce: true };
    const { data, done } = await eventsOf(await post('/v1/chat/completions', chat({ stream: true })));
    expect([textOf(data), done]).toEqual([' w0 w1 w2', true]);
    const whole = await chatOf(await post('/v1/chat/completions', chat()));
    expect(whole.choices[0]?.message.content).toBe(' w0 w1 w2');
    const entry = { outcome: 'completed', inputTokens: 9, outputTokens: 3 };
    expect(await rig.entries()).toMatchObject([entry, entry]);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ held: 0, used: 24 });
  });

  test('a client that leaves pays for what was released, and leaves no hold', async () => {
    const leaving = new AbortController();
    rig.pool.script = { beforeToken: (position) => rig.ports.clock.sleep(position < 3 ? 0 : 50) };
    const response = await post('/v1/chat/completions', chat({ stream: true, max_tokens: 1000 }), leaving.signal);
    const reader = response.body?.getReader();
    for (let read = 0; read < 4; read++) await reader?.read();
    leaving.abort();
    await reader?.cancel();
    await rig.unheld();
    const [entry] = await rig.entries();
    expect(entry).toMatchObject({ outcome: 'cancelled', inputTokens: 9 });
    expect(entry?.outputTokens).toBeGreaterThanOrEqual(3);
    expect(entry?.outputTokens).toBeLessThan(100);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ held: 0, used: 9 + (entry?.outputTokens ?? 0) });
  });

  test('a client that leaves a whole answer leaves no hold either', async () => {
    const leaving = new AbortController();
    rig.pool.script = { beforeToken: () => rig.ports.clock.sleep(20) };
    const answer = post('/v1/chat/completions', chat({ max_tokens: 1000 }), leaving.signal);
    while (rig.pool.requests.length === 0) await rig.ports.clock.sleep(10);
    leaving.abort();
    await answer;
    await rig.unheld();
    expect(await rig.entries()).toMatchObject([{ outcome: 'cancelled' }]);
  });

  test.each([true, false])(
    'a pool killed while it serves (stream: %s): an error now, the exact bill when it is back',
    async (stream) => {
      let killed = Promise.resolve();
      rig.pool.script = {
        async beforeToken(position) {
          if (position === 3) killed = rig.pool.kill();
        },
      };
      const response = await post('/v1/chat/completions', chat({ stream, max_tokens: 100 }));
      if (stream) expect((await eventsOf(response)).data.at(-1)).toMatchObject({ error: { type: 'server_error' } });
      else expect(response.status).toBe(503);
      await killed;
      await rig.settler.tick();
      expect((await rig.limits(tenant.key))[0]?.held).toBeGreaterThan(0);
      expect((await post('/v1/chat/completions', chat())).status).toBe(503);

      rig.pool.script = {};
      await rig.pool.start();
      await rig.settler.tick();
      expect(await rig.entries()).toMatchObject([{ outcome: 'failed', inputTokens: 9, outputTokens: 3 }]);
      expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 12, held: 0 });
      await rig.settler.tick();
      expect(rig.pool.unacknowledged).toBe(0);
      await rig.refresh();
      expect((await post('/v1/chat/completions', chat())).status).toBe(200);
    },
  );

  test('a client that leaves before the pool has answered leaves no hold to guess about', async () => {
    const answered = Promise.withResolvers<void>();
    rig.pool.script = { beforeAnswer: () => answered.promise, beforeToken: () => rig.ports.clock.sleep(20) };
    const leaving = new AbortController();
    const answer = post('/v1/chat/completions', chat({ max_tokens: 1000 }), leaving.signal);
    while (rig.pool.requests.length === 0) await rig.ports.clock.sleep(5);
    leaving.abort();
    await rig.ports.clock.sleep(20);
    answered.resolve();
    await answer;
    await rig.unheld();
    expect(await rig.entries()).toMatchObject([{ outcome: 'cancelled', inputTokens: 9 }]);
  });

  test('the settler leaves alone what a relay still watches, however little the pool knows of it', async () => {
    await rig.pool.kill();
    await rig.pool.start(); // later than the settler, so the pool would refuse what an earlier process signed
    await rig.refresh();
    const answered = Promise.withResolvers<void>();
    rig.pool.script = { beforeAnswer: () => answered.promise };
    const answer = post('/v1/chat/completions', chat());
    while (rig.pool.requests.length === 0) await rig.ports.clock.sleep(5);
    await rig.settler.tick();
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 0, held: 12 });
    answered.resolve();
    expect((await answer).status).toBe(200);
    expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 3 }]);
  });

  test('answers of a pool that does not sign them are not believed', async () => {
    rig.pool.script = { forgeAnswers: true };
    await rig.refresh();
    expect((await post('/v1/chat/completions', chat())).status).toBe(503);
  });

  test('a receipt is acknowledged once it is settled', async () => {
    await post('/v1/chat/completions', chat());
    expect(rig.pool.unacknowledged).toBe(1);
    await rig.settler.tick();
    expect(rig.pool.unacknowledged).toBe(0);
    expect(await rig.entries()).toHaveLength(1);
  });
});

describe('quotas', () => {
  test('twenty at once against a small quota: never over, as many as fit pass, no hold is left', async () => {
    // Each needs 9 prompt tokens and at most 10 of output.
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 100 }]);
    rig.pool.script = { beforeToken: () => rig.ports.clock.sleep(2) };
    let most = 0;
    let watching = true;
    const watched = (async () => {
      while (watching) {
        const [limit] = await rig.limits(tenant.key);
        most = Math.max(most, (limit?.used ?? 0) + (limit?.held ?? 0));
        await rig.ports.clock.sleep(1);
      }
    })();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => post('/v1/chat/completions', chat({ max_tokens: 10 }))),
    );
    watching = false;
    await watched;
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(15);
    expect(most).toBe(95);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 95, held: 0, remaining: 5 });
    const refused = answers.find(({ status }) => status === 429);
    expect((await bodyOf(refused ?? Response.error())).error).toMatchObject({
      type: 'tokens',
      code: 'rate_limit_exceeded',
    });
    expect(refused?.headers.get('retry-after')).toBe('1');
    expect(refused?.headers.get('x-ratelimit-remaining-tokens')).toMatch(/^\d+$/);
  });

  test('settled use that leaves no room is insufficient_quota, never to be retried', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 20 }]);
    expect((await post('/v1/chat/completions', chat({ max_tokens: 10 }))).status).toBe(200);
    const response = await post('/v1/chat/completions', chat({ max_tokens: 10 }));
    expect(response.status).toBe(429);
    expect((await bodyOf(response)).error).toMatchObject({ type: 'insufficient_quota', code: 'insufficient_quota' });
    expect(response.headers.get('x-should-retry')).toBe('false');
  });

  test('larger than a whole window is a 400', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'month', limit_tokens: 15 }]);
    expect((await post('/v1/chat/completions', chat({ max_tokens: 10 }))).status).toBe(400);
  });

  test('an absent max_tokens takes what the quota has left; an explicit one is never shrunk', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 14 }]);
    expect((await post('/v1/chat/completions', chat({ max_tokens: 6 }))).status).toBe(400);
    const answer = await chatOf(await post('/v1/chat/completions', chat({ max_tokens: undefined })));
    expect(answer.usage?.completion_tokens).toBe(5);
  });

  test('nobody is refused because of a loose bound: it is counted first, once per prompt', async () => {
    // 400 bytes in 100 characters: the bound is 407 tokens, the count 107.
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 250 }]);
    const body = chat({ messages: [{ role: 'user', content: '😀'.repeat(100) }], max_tokens: 3 });
    expect((await post('/v1/chat/completions', body)).status).toBe(200);
    expect((await post('/v1/chat/completions', body)).status).toBe(200);
    expect(rig.pool.counted).toBe(1);
    expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 220 });
  });

  test('the first event shrinks a hold to the exact prompt', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 1_000_000 }]);
    const body = chat({ messages: [{ role: 'user', content: '😀'.repeat(100) }], max_tokens: 50, stream: true });
    rig.pool.script = { beforeToken: () => rig.ports.clock.sleep(5) };
    const response = await post('/v1/chat/completions', body);
    expect(response.headers.get('x-ratelimit-remaining-tokens')).toBe(String(1_000_000 - 407 - 50));
    // The first event doesn't wait for it.
    await expect.poll(async () => (await rig.limits(tenant.key))[0]).toMatchObject({ used: 0, held: 107 + 50 });
    expect(rig.pool.counted).toBe(0);
    await response.text();
  });

  test('a loose bound does not cut the default output short where the context has room', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, []);
    const messages = [{ role: 'user', content: '😀'.repeat(1015) }];
    const answer = await chatOf(await post('/v1/chat/completions', chat({ messages, max_tokens: undefined })));
    expect(answer.usage).toMatchObject({ prompt_tokens: 1022, completion_tokens: 64 });
    expect(rig.pool.counted).toBe(1);
  });

  test('a quota for one model leaves the others alone', async () => {
    await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [
      { window: 'day', limit_tokens: 1, models: ['large'] },
    ]);
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
  });
});

test('past the limit of requests at once one is refused, and every way to end gives its place back', async () => {
  await rig.stop();
  rig = await GatewayRig.start({ maxConcurrentRequests: 1 });
  tenant = await rig.tenant();
  rig.pool.script = { beforeToken: () => rig.ports.clock.sleep(5) };
  const leaving = new AbortController();
  const endings: (() => Promise<unknown>)[] = [
    async () => (await post('/v1/chat/completions', chat({ stream: true }))).text(),
    async () => (await post('/v1/chat/completions', chat({ stream: true }))).body?.cancel(),
    () => post('/v1/chat/completions', chat()),
    () => post('/v1/chat/completions', chat({ model: 'none' })),
    () => post('/v1/chat/completions', '{'),
    async () => {
      const answer = post('/v1/chat/completions', chat({ max_tokens: 1000 }), leaving.signal);
      await rig.ports.clock.sleep(20);
      leaving.abort();
      await answer;
    },
  ];
  const running = post('/v1/chat/completions', chat());
  const second = await post('/v1/chat/completions', chat());
  expect(second.status).toBe(503);
  expect((await bodyOf(second)).error).toMatchObject({ type: 'server_error', code: 'overloaded' });
  expect((await running).status).toBe(200);
  for (const end of endings) {
    await end();
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
  }
  await rig.unheld();
});

test('no key and no text is in logs and metrics', async () => {
  const secret = 'the-ostrich-hides';
  await post('/v1/chat/completions', chat({ messages: [{ role: 'user', content: secret }] }));
  await post('/v1/chat/completions', chat({ [secret]: 1 }));
  await rig.pool.kill();
  await post('/v1/chat/completions', chat({ messages: [{ role: 'user', content: secret }] }));
  const metrics = await (await rig.request('GET', '/metrics', { key: rig.ports.keyring.adminKey })).text();
  expect(metrics).toContain('hearth_gateway_settled_requests_total{outcome="completed"} 1');
  for (const text of [rig.logged.join(''), metrics]) {
    expect(text).not.toContain(secret);
    expect(text).not.toContain(tenant.key);
  }
  expect((await rig.request('GET', '/metrics', { key: tenant.key })).status).toBe(403);
});
