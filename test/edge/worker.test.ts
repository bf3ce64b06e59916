// The gateway on Workers, in workerd, as its clients see it: the official client unmodified, administration, public prefixes, and that
// nothing passes a quota however many ask at once.
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EdgeRig } from '../support/edgeRig.ts';
import { ADMIN_KEY, bodyOf } from '../support/gatewayClient.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

const BURST = 500;
const FIT = 100;
/** More at once, and workerd's one thread lets connections wait longer than it keeps idle ones (5 s, on a slow machine). */
const AT_ONCE = 150;

const pool = new ScriptedPool();
let rig: EdgeRig;

beforeAll(async () => {
  await pool.start();
  rig = await EdgeRig.start(pool, { limits: { maxConcurrentRequests: BURST } });
});
afterAll(async () => {
  await rig.stop();
  await pool.kill();
});
beforeEach(() => {
  pool.script = {};
});

const chat = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], max_tokens: 3 };
const client = (apiKey: string) => new OpenAI({ apiKey, baseURL: rig.baseURL, maxRetries: 0 });

describe('the official client', () => {
  test('gets an answer, and the same one as a stream', async () => {
    const { key } = await rig.tenant();
    const whole = await client(key).chat.completions.create(chat);
    expect(whole.choices[0]?.message.content).toBe(' w0 w1 w2');
    expect(whole.usage).toMatchObject({ prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 });
    const stream = await client(key).chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let tokens = 0;
    for await (const { choices, usage } of stream) {
      text += choices[0]?.delta.content ?? '';
      tokens = usage?.total_tokens ?? tokens;
    }
    expect([text, tokens]).toEqual([' w0 w1 w2', 12]);
    expect((await client(key).models.list()).data.map(({ id }) => id)).toEqual(['tiny']);
  });

  test('gets a completion of several prompts', async () => {
    const { key } = await rig.tenant();
    const { choices } = await client(key).completions.create({ model: 'tiny', prompt: ['a', 'b'], max_tokens: 2 });
    expect(choices.map(({ text }) => text)).toEqual([' w0 w1', ' w0 w1']);
  });

  test('throws the class of each error', async () => {
    const { key } = await rig.tenant([{ window: 'day', limit_tokens: 20 }]);
    const ask = (change: Partial<typeof chat>, apiKey = key) =>
      client(apiKey).chat.completions.create({ ...chat, ...change });
    await expect(ask({}, `${key}x`)).rejects.toThrow(OpenAI.AuthenticationError);
    await expect(ask({ model: 'none' })).rejects.toThrow(OpenAI.NotFoundError);
    await expect(ask({ max_tokens: 100 })).rejects.toThrow(OpenAI.BadRequestError);
    await ask({});
    await expect(ask({ max_tokens: 8 })).rejects.toMatchObject({ status: 429, code: 'insufficient_quota' });
    expect(await rig.limits(key)).toMatchObject([{ used: 12, held: 0 }]);
    const other = await rig.tenant([{ window: 'day', limit_tokens: 100 }]);
    pool.script = { refuse: { status: 503, message: 'full', type: 'server_error', param: null, code: 'overloaded' } };
    await expect(ask({}, other.key)).rejects.toThrow(OpenAI.InternalServerError);
    expect(await rig.limits(other.key)).toMatchObject([{ used: 0, held: 0 }]);
  });

  test('hears of a pool that fails in the middle of its stream', async () => {
    const { key } = await rig.tenant();
    pool.script = { tamper: { event: 2, how: 'cut' }, beforeToken: () => sleep(100) };
    const stream = await client(key).chat.completions.create({ ...chat, stream: true });
    const read = async () => {
      for await (const _ of stream);
    };
    await expect(read()).rejects.toThrow(/failed/);
  });
});

describe('administration', () => {
  test('a key that is revoked, and a project that is archived, are refused at the next request', async () => {
    const one = await rig.tenant();
    expect((await rig.request('GET', '/v1/key', { key: one.key })).status).toBe(200);
    await rig.admin('DELETE', `/projects/${one.id}/api_keys/${one.keyId}`);
    expect((await rig.request('GET', '/v1/key', { key: one.key })).status).toBe(401);
    const two = await rig.tenant();
    await rig.admin('POST', `/projects/${two.id}/archive`);
    expect((await rig.request('GET', '/v1/key', { key: two.key })).status).toBe(401);
  });

  test('a service policy is kept, lists are paged, and the pool is told shares and cache', async () => {
    const { id, key } = await rig.tenant();
    await rig.admin('PUT', `/projects/${id}/service_policy`, { weight: 2.5, kv_floor_share: 0.25 });
    expect(await rig.admin('GET', `/projects/${id}/service_policy`)).toMatchObject({
      weight: 2.5,
      cache_scope: 'project',
    });
    const page = await rig.admin<{ data: object[]; has_more: boolean }>('GET', '/projects?limit=1');
    expect([page.data.length, page.has_more]).toEqual([1, true]);
    await client(key).chat.completions.create(chat);
    const { context } = pool.requests.at(-1) ?? {};
    expect(context).toMatchObject({ tenant: id, weight: 2.5, kvFloorShare: 0.25 });
    expect(context?.cacheScope).toMatch(/^[0-9a-f]{32}$/);
  });

  test('a public prefix is declared, pushed to the pool, listed and deleted', async () => {
    const { id } = await rig.admin<{ id: string }>('POST', '/public_prefixes', { model: 'tiny', text: 'a'.repeat(20) });
    expect(pool.prefixes?.prefixes.map((one) => one.id)).toEqual([id]);
    expect(await rig.admin('GET', '/public_prefixes')).toMatchObject({
      data: [{ id, pools: [{ state: 'declared' }] }],
    });
    await rig.admin('DELETE', `/public_prefixes/${id}`);
    expect(pool.prefixes?.prefixes).toEqual([]);
  });

  test('usage of a project is there as soon as it is settled, and exported with cursors of the shared store', async () => {
    const tenants = [await rig.tenant(), await rig.tenant()];
    for (const { key } of tenants) await client(key).chat.completions.create(chat);
    const ids = tenants.map(({ id }) => id).join(',');
    const start = Math.floor(Date.now() / 1000) - 600;
    const usage = await rig.admin<{ data: { results: { num_model_requests: number; input_tokens: number }[] }[] }>(
      'GET',
      `/usage/completions?start_time=${start}&bucket_width=1d&project_ids=${ids}`,
    );
    const results = usage.data.flatMap((bucket) => bucket.results);
    expect(results.reduce((sum, one) => sum + one.num_model_requests, 0)).toBe(2);
    const exported = await rig.request('GET', `/v1/organization/usage/export?project_ids=${ids}`, { key: ADMIN_KEY });
    const rows = (await exported.text())
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(rows.map(({ project_id, output_tokens }) => [project_id, output_tokens]).sort()).toEqual(
      tenants.map(({ id }) => [id, 3]).sort(),
    );
    const [first, second] = rows.map(({ cursor }) => cursor);
    expect(second).toBeGreaterThan(first);
  });

  test('metrics and readiness answer', async () => {
    for (let i = 0; i < 3; i++) expect((await rig.request('GET', '/healthz')).status).toBe(200);
    expect((await rig.request('GET', '/readyz')).status).toBe(200);
    const metrics = await (await rig.request('GET', '/metrics', { key: ADMIN_KEY })).text();
    expect(metrics).toContain('hearth_gateway_pool_ready{pool="pool-a"} 1');
    expect(metrics, 'one host serves all requests of the isolate').toMatch(
      /responses_total{route="GET \/healthz".*} 3/,
    );
    expect(await bodyOf(await rig.request('GET', '/nothing'))).toMatchObject({ error: { code: 'not_found' } });
  });
});

test('an object that a newer version wrote is refused with the remedy, and served again by that version', async () => {
  const { id, key } = await rig.tenant();
  await rig.pull(id, { lever: 'age' });
  await expect(rig.pull(id, { lever: 'crash' })).rejects.toThrow(/crashed/);
  const response = await rig.request('GET', '/v1/key', { key });
  expect(response.status).toBe(503);
  expect(await bodyOf(response)).toMatchObject({ error: { message: expect.stringContaining('Deploy that version') } });
});

test(`of ${BURST} requests at once on a quota for ${FIT}, exactly ${FIT} pass`, async () => {
  const perRequest = 9 + 3;
  const { key } = await rig.tenant([{ window: 'lifetime', limit_tokens: FIT * perRequest }]);
  const barrier = Promise.withResolvers<void>();
  let arrived = 0;
  pool.script = {
    beforeAnswer: async () => {
      arrived += 1;
      await barrier.promise;
    },
  };
  const body = { model: 'tiny', prompt: Array.from({ length: 9 }, () => 1), max_tokens: 3 };
  const statuses: number[] = [];
  let left = BURST;
  const clients = Array.from({ length: AT_ONCE }, async () => {
    while (left-- > 0) statuses.push((await rig.request('POST', '/v1/completions', { key, body })).status);
  });
  while (arrived < FIT || statuses.length < BURST - FIT) await sleep(10);
  expect(await rig.limits(key)).toMatchObject([{ used: 0, held: FIT * perRequest }]);
  barrier.resolve();
  await Promise.all(clients);
  const count = (wanted: number) => statuses.filter((status) => status === wanted).length;
  expect([count(200), count(429), statuses.length]).toEqual([FIT, BURST - FIT, BURST]);
  expect(arrived).toBe(FIT);
  expect(await rig.limits(key)).toMatchObject([{ used: FIT * perRequest, held: 0, remaining: 0 }]);
});

test('of a burst whose requests end early more pass as room comes back, and it is never over', async () => {
  const limit = 1000;
  const { key } = await rig.tenant([{ window: 'lifetime', limit_tokens: limit }]);
  pool.script = { tokens: [' a', ' b'] };
  let most = 0;
  let running = true;
  const watch = (async () => {
    while (running) {
      const [quota] = await rig.limits(key);
      most = Math.max(most, (quota?.used ?? 0) + (quota?.held ?? 0));
    }
  })();
  // Each holds 100 and uses 5: ten at once fit, two hundred in all.
  const body = { model: 'tiny', prompt: [1, 2, 3], max_tokens: 97 };
  let passed = 0;
  const clients = Array.from({ length: 50 }, async () => {
    for (let i = 0; i < 4; i++)
      if ((await rig.request('POST', '/v1/completions', { key, body })).status === 200) passed += 1;
  });
  await Promise.all(clients);
  running = false;
  await watch;
  expect(passed).toBeGreaterThan(10);
  expect(most).toBeGreaterThan(limit / 2);
  expect(most).toBeLessThanOrEqual(limit);
  expect(await rig.limits(key)).toMatchObject([{ used: passed * 5, held: 0 }]);
});
