// Each refusal of the HTTP contract that a tenant can meet, from the running system, and that it costs nothing.
import OpenAI, { type APIError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type System, startSystem } from '../support/system.ts';

let system: System;
let model: string;

beforeAll(async () => {
  system = await startSystem();
  model = (await system.client.models.list()).data[0]?.id ?? '';
}, 600_000);

afterAll(async () => {
  await system.stop();
});

interface Refused {
  status: number;
  headers: Headers;
  error: { message: string; type: string; param: string | null; code: string | null };
}

async function refused(path: string, body: unknown, key = system.apiKey, method = 'POST'): Promise<Refused> {
  const response = await fetch(`${system.baseURL}${path}`, {
    method,
    headers: { 'content-type': 'application/json', ...(key ? { authorization: `Bearer ${key}` } : {}) },
    ...(method === 'GET' ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const answer = (await response.json()) as { error: Refused['error'] };
  return { status: response.status, headers: response.headers, error: answer.error };
}

const chat = (extra: object = {}): object => ({
  model,
  messages: [{ role: 'user', content: 'Hello' }],
  max_tokens: 4,
  ...extra,
});

interface Case {
  name: string;
  path?: string;
  body: () => unknown;
  key?: () => string;
  method?: string;
  status: number;
  type: string;
  code: string | null;
  param?: string | null;
}

const invalid = 'invalid_request_error';
const cases: Case[] = [
  { name: 'bad JSON', body: () => '{"model": ', status: 400, type: invalid, code: null },
  {
    name: 'a wrong type, by its path',
    body: () => chat({ messages: [{ role: 'robot', content: 'x' }] }),
    status: 400,
    type: invalid,
    code: null,
    param: 'messages.0.role',
  },
  {
    name: 'a value out of range',
    body: () => chat({ temperature: 3 }),
    status: 400,
    type: invalid,
    code: null,
    param: 'temperature',
  },
  {
    name: 'an unknown parameter',
    body: () => chat({ temprature: 1 }),
    status: 400,
    type: invalid,
    code: 'unsupported_parameter',
    param: 'temprature',
  },
  {
    name: 'more than the context',
    body: () => chat({ max_tokens: 1_000_000 }),
    status: 400,
    type: invalid,
    code: 'context_length_exceeded',
  },
  {
    name: 'a token id beyond the vocabulary',
    path: '/completions',
    body: () => ({ model, prompt: [1, 99_999_999], max_tokens: 1 }),
    status: 400,
    type: invalid,
    code: null,
    param: 'prompt',
  },
  { name: 'no key', body: () => chat(), key: () => '', status: 401, type: invalid, code: 'invalid_api_key' },
  {
    name: 'a malformed key',
    body: () => chat(),
    key: () => 'sk-hello',
    status: 401,
    type: invalid,
    code: 'invalid_api_key',
  },
  {
    name: 'a key with one wrong character',
    body: () => chat(),
    key: () => `${system.apiKey.slice(0, -1)}${system.apiKey.endsWith('a') ? 'b' : 'a'}`,
    status: 401,
    type: invalid,
    code: 'invalid_api_key',
  },
  {
    name: "a tenant's key on an admin route",
    path: '/organization/projects',
    method: 'GET',
    body: () => ({}),
    status: 403,
    type: 'permission_error',
    code: 'insufficient_permissions',
  },
  {
    name: 'an unknown model',
    body: () => chat({ model: 'gpt-17' }),
    status: 404,
    type: invalid,
    code: 'model_not_found',
  },
  { name: 'an unknown route', path: '/nothing', body: () => ({}), status: 404, type: invalid, code: 'not_found' },
  {
    name: 'a body over the limit',
    body: () => chat({ messages: [{ role: 'user', content: 'x'.repeat(40_000_000) }] }),
    status: 413,
    type: invalid,
    code: 'request_too_large',
  },
];

test.each(cases)('$status $code: $name', async ({ path, body, key, method, status, type, code, param }) => {
  const answer = await refused(path ?? '/chat/completions', body(), key?.(), method);
  expect(answer).toMatchObject({ status, error: { type, code } });
  expect(Object.keys(answer.error).sort()).toEqual(['code', 'message', 'param', 'type']);
  expect(answer.error.message.length).toBeGreaterThan(10);
  if (param !== undefined) expect(answer.error.param).toBe(param);
  expect(answer.headers.get('x-request-id')).toBeTruthy();
});

test('the official client throws its own error classes', async () => {
  const { client } = system;
  await expect(client.chat.completions.create({ model: 'gpt-17', messages: [] })).rejects.toBeInstanceOf(
    OpenAI.APIError,
  );
  const stranger = new OpenAI({ baseURL: system.baseURL, apiKey: 'sk-nobody', maxRetries: 0 });
  await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
});

test('a revoked key is refused at its next request', async () => {
  const tenant = await system.tenant('revoked');
  await tenant.client.models.list();
  await system.admin('DELETE', `/organization/projects/${tenant.id}/api_keys/${tenant.keyId}`);
  await expect(tenant.client.models.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
});

test('no key or prompt is in the output of the processes', async () => {
  const secret = 'the-ostrich-hides-at-midnight';
  await refused('/chat/completions', chat({ messages: [{ role: 'user', content: secret }] }));
  await refused('/chat/completions', chat({ [secret]: 1 }), `${system.apiKey}x`);
  expect(system.output()).not.toContain(secret);
  expect(
    system.output().split(system.apiKey).length,
    'only in the block that is printed at the start',
  ).toBeLessThanOrEqual(5);
});

describe('quotas', () => {
  interface Limit {
    window: string;
    limit_tokens: number;
    used: number;
    held: number;
    remaining: number;
  }
  const limitsOf = async (key: string): Promise<Limit[]> => {
    const response = await fetch(`${system.baseURL}/key`, { headers: { authorization: `Bearer ${key}` } });
    return ((await response.json()) as { limits: Limit[] }).limits;
  };

  test('twenty at once against a small quota: as many as fit, never over, no hold left', async () => {
    const limit = 400;
    const tenant = await system.tenant('burst', [{ window: 'lifetime', limit_tokens: limit }]);
    let watched = true;
    const watch = (async () => {
      while (watched) {
        for (const { used, held } of await limitsOf(tenant.key)) expect(used + held).toBeLessThanOrEqual(limit);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const request = { model, messages: [{ role: 'user' as const, content: 'Count.' }], max_tokens: 20, temperature: 1 };
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, seed) => tenant.client.chat.completions.create({ ...request, seed })),
    );
    watched = false;
    await watch;
    let told = 0;
    let passed = 0;
    for (const result of results)
      if (result.status === 'fulfilled') {
        told += result.value.usage?.total_tokens ?? 0;
        passed++;
      } else expect(result.reason).toMatchObject({ status: 429 });
    expect(told).toBeLessThanOrEqual(limit);
    const [left] = await limitsOf(tenant.key);
    expect(left).toMatchObject({ used: told, held: 0, remaining: limit - told });
    // Each may use what its prompt and max_tokens need; so many fit side by side.
    const most = Math.max(
      ...results.map((r) => (r.status === 'fulfilled' ? (r.value.usage?.prompt_tokens ?? 0) + 20 : 0)),
    );
    expect(passed).toBeGreaterThanOrEqual(Math.floor(limit / most));

    let refusal: APIError | null = null;
    while (!refusal)
      refusal = await tenant.client.chat.completions.create(request).then(
        () => null,
        (error: APIError) => error,
      );
    expect(refusal).toMatchObject({ status: 429, type: 'insufficient_quota', code: 'insufficient_quota' });
    expect(refusal.headers?.get('x-should-retry')).toBe('false');
    const [end] = await limitsOf(tenant.key);
    expect(end?.used).toBeLessThanOrEqual(limit);
  });

  test("refused only for others' holds can be retried", async () => {
    const tenant = await system.tenant('held', [{ window: 'day', limit_tokens: 300 }]);
    const request = {
      model,
      messages: [{ role: 'user' as const, content: 'Go on.' }],
      max_tokens: 200,
      temperature: 1,
      seed: 1,
    };
    const stream = await tenant.client.chat.completions.create({ ...request, stream: true });
    const first = await stream[Symbol.asyncIterator]().next();
    expect(first.done).toBe(false);
    const error = await tenant.client.chat.completions.create(request).then(
      () => null,
      (reason: APIError) => reason,
    );
    expect(error).toMatchObject({ status: 429, type: 'tokens', code: 'rate_limit_exceeded' });
    expect(Number(error?.headers?.get('retry-after'))).toBeGreaterThan(0);
    stream.controller.abort();
  });

  test('a request that no window could ever hold is a 400', async () => {
    const tenant = await system.tenant('narrow', [{ window: 'day', limit_tokens: 50 }]);
    await expect(
      tenant.client.chat.completions.create({ model, messages: [{ role: 'user', content: 'x' }], max_tokens: 100 }),
    ).rejects.toMatchObject({ status: 400 });
  });
});
