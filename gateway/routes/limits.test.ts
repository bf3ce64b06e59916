// Limits through the app: rate limits, spend, concurrency and keys' own limits, what a refused client is told, and bursts at a barrier.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';

let rig: GatewayRig;
let tenant: Tenant;
beforeEach(async () => {
  rig = await GatewayRig.start({ maxConcurrentRequests: 1000 });
  tenant = await rig.tenant();
});
afterEach(() => rig.stop());

const ask = (extra: object = {}, key = tenant.key) =>
  rig.request('POST', '/v1/completions', { key, body: { model: 'tiny', prompt: [1, 2, 3], max_tokens: 2, ...extra } });
const refusedAs = async (response: Response) => ({
  status: response.status,
  ...(await bodyOf(response)).error,
  retry: response.headers.get('x-should-retry'),
  afterMs: Number(response.headers.get('retry-after-ms')),
});
const adminStatus = async (method: string, path: string, body?: unknown) => {
  const response = await rig.request(method, `/v1/organization${path}`, { key: ADMIN_KEY, body });
  return { status: response.status, ...(response.ok ? {} : await bodyOf(response)) };
};
interface LimitShown {
  scope: string;
  metric: string;
  window: string;
  unit: string;
  limit: number;
  used: number;
  held: number;
  remaining: number;
  resets_at: number | null;
}
const shown = async (key = tenant.key) =>
  (await bodyOf<{ limits: LimitShown[] }>(await rig.request('GET', '/v1/key', { key }))).limits;

test('rate limits are set per model and for all, by the field, and lists show what is served', async () => {
  const path = `/projects/${tenant.id}/rate_limits`;
  const none = { max_requests_per_1_minute: null, max_tokens_per_1_minute: null, max_requests_per_1_day: null };
  const list = () => rig.admin<{ data: object[] }>('GET', path);
  expect((await list()).data).toMatchObject([
    { object: 'project.rate_limit', id: 'rl-*', model: '*', ...none },
    { id: 'rl-tiny', model: 'tiny', ...none },
  ]);
  await rig.admin('POST', `${path}/rl-tiny`, { max_requests_per_1_minute: 5, max_tokens_per_1_minute: 100 });
  expect(await rig.admin('POST', `${path}/rl-tiny`, { max_requests_per_1_minute: 2 })).toMatchObject({
    ...{ max_requests_per_1_minute: 2, max_tokens_per_1_minute: 100, max_requests_per_1_day: null },
  });
  expect(await rig.admin('POST', `${path}/rl-tiny`, { max_tokens_per_1_minute: null })).toMatchObject({
    ...{ max_requests_per_1_minute: 2, max_tokens_per_1_minute: null },
  });
  expect(await adminStatus('POST', `${path}/rl-none`, {})).toMatchObject({ status: 404 });
  expect(await adminStatus('POST', `${path}/rl-tiny`, { max_images_per_1_minute: 1 })).toMatchObject({
    ...{ status: 400, error: { param: 'max_images_per_1_minute' } },
  });
  for (const _ of [1, 2]) expect((await ask()).status).toBe(200);
  const refused = await ask();
  expect(refused.headers.get('x-ratelimit-limit-requests')).toBe('2');
  expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
  expect(refused.headers.get('x-ratelimit-reset-requests')).toMatch(/^(1m[01]s|60s|59s)$/);
  const told = await refusedAs(refused);
  expect(told).toMatchObject({ status: 429, type: 'requests', code: 'rate_limit_exceeded', retry: null });
  expect(told.afterMs).toBeGreaterThan(50_000);
  expect(told.afterMs).toBeLessThanOrEqual(61_000);
  expect((await rig.entries()).length).toBe(2);
});

test('a minute of tokens is told with its own headers, beside a daily quota', async () => {
  await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'day', limit_tokens: 1000 }]);
  await rig.admin('POST', `/projects/${tenant.id}/rate_limits/rl-*`, { max_tokens_per_1_minute: 12 });
  const first = await ask();
  expect(first.headers.get('x-ratelimit-limit-tokens')).toBe('12');
  expect(first.headers.get('x-ratelimit-remaining-tokens')).toBe('7');
  expect(first.headers.get('x-ratelimit-reset-tokens')).toMatch(/^(59s|1m[01]s)$/);
  expect(await refusedAs(await ask({ max_tokens: 5 }))).toMatchObject({
    ...{ status: 429, type: 'tokens', code: 'rate_limit_exceeded', retry: null },
  });
  expect((await ask({ max_tokens: 10 })).status).toBe(400);
});

test('spend: held at its dearest, billed at the price of the reservation, refused for good when it is gone', async () => {
  await rig.admin('POST', '/prices', { model: 'tiny', input_nano_usd: 1_000_000, output_nano_usd: 2_000_000 });
  await rig.admin('POST', `/projects/${tenant.id}/spend_limit`, {
    threshold_amount: 2,
    currency: 'USD',
    interval: 'month',
  });
  expect((await ask()).status).toBe(200);
  const spend = `/projects/${tenant.id}/spend_limit`;
  expect(await rig.admin('GET', spend)).toMatchObject({
    ...{ object: 'project.spend_limit', threshold_amount: 2, currency: 'USD', interval: 'month' },
    ...{ used_nano_usd: 7_000_000, remaining_nano_usd: 13_000_000, enforcement: { status: 'inactive' } },
  });
  expect(await refusedAs(await ask({ max_tokens: 6 }))).toMatchObject({
    ...{ status: 429, type: 'insufficient_quota', code: 'spend_limit_exceeded', retry: 'false' },
    message: expect.stringContaining('0.015 USD'),
  });
  expect((await ask({ max_tokens: 5 })).status).toBe(200);
  expect(await rig.admin('GET', spend)).toMatchObject({ enforcement: { status: 'enforcing' }, remaining_nano_usd: 0 });
  expect(await shown()).toMatchObject([
    { metric: 'spend', window: 'month', unit: 'nano_usd', used: 20_000_000, held: 0 },
  ]);
  const [entry] = await rig.entries();
  expect(entry).toMatchObject({
    costNanoUsd: 7_000_000,
    price: { inputNanoUsd: 1_000_000, cachedInputNanoUsd: 1_000_000 },
  });
  expect(await rig.admin('DELETE', spend)).toEqual({ object: 'project.spend_limit.deleted', deleted: true });
  expect(await adminStatus('GET', spend)).toMatchObject({ status: 404 });
  expect((await ask({ max_tokens: 6 })).status).toBe(200);
});

test('prices are never changed in the past, nor twice from one moment on', async () => {
  const price = { model: 'tiny', input_nano_usd: 5, output_nano_usd: 7 };
  const from = Math.floor(Date.now() / 1000) + 3600;
  const { id } = await rig.admin<{ id: string }>('POST', '/prices', { ...price, effective_from: from });
  expect((await rig.admin<{ data: object[] }>('GET', '/prices?model=tiny')).data).toMatchObject([
    { id, object: 'organization.price', effective_from: from, cached_input_nano_usd: 5 },
  ]);
  for (const [extra, param] of [
    [{ effective_from: from }, 'effective_from'],
    [{ effective_from: from - 7200 }, 'effective_from'],
    [{ cached_input_nano_usd: 6 }, 'cached_input_nano_usd'],
    [{ output_nano_usd: 0.5 }, 'output_nano_usd'],
    [{ input_nano_usd: -1 }, 'input_nano_usd'],
  ] as const)
    expect(await adminStatus('POST', '/prices', { ...price, ...extra })).toMatchObject({
      status: 400,
      error: { param },
    });
  await ask();
  expect((await rig.entries())[0]).toMatchObject({ price: null, costNanoUsd: 0 });
});

test('requests at once and allowed models are part of the service policy', async () => {
  const path = `/projects/${tenant.id}/service_policy`;
  expect(await rig.admin('PUT', path, { max_concurrent_requests: 1, allowed_models: ['tiny'] })).toMatchObject({
    ...{ weight: 1, max_concurrent_requests: 1, allowed_models: ['tiny'] },
  });
  expect(await rig.admin('GET', path)).toMatchObject({ max_concurrent_requests: 1, allowed_models: ['tiny'] });
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  rig.pool.script = { beforeToken: () => gate };
  const running = ask();
  while ((await rig.ledger.holdCounts()).held === 0) await rig.ports.clock.sleep(5);
  const told = await refusedAs(await ask());
  expect(told).toMatchObject({ status: 429, type: 'requests', code: 'rate_limit_exceeded', retry: null });
  expect(told.afterMs).toBeGreaterThan(0);
  release();
  expect((await running).status).toBe(200);
  expect((await ask()).status).toBe(200);
  await rig.admin('PUT', path, { allowed_models: ['another'] });
  expect(await refusedAs(await ask())).toMatchObject({
    status: 403,
    type: 'permission_error',
    code: 'model_not_allowed',
    param: 'model',
  });
  const models = await rig.request('GET', '/v1/models', { key: tenant.key });
  expect(await bodyOf<object>(models)).toEqual({ object: 'list', data: [] });
  expect((await rig.request('GET', '/v1/models/tiny', { key: tenant.key })).status).toBe(404);
});

test("a key's limits and models are set when it is made, shown to it, and changed later", async () => {
  const limits = [
    { metric: 'requests', window: 'day', limit: 1 },
    { metric: 'concurrent', limit: 3, models: ['tiny'] },
  ];
  const made = await rig.admin<{ api_key: { id: string; value: string } }>(
    'POST',
    `/projects/${tenant.id}/service_accounts`,
    {
      ...{ name: 'bounded', allowed_models: ['tiny'], limits },
    },
  );
  const { id, value } = made.api_key;
  expect((await ask({}, value)).status).toBe(200);
  expect(await refusedAs(await ask({}, value))).toMatchObject({
    ...{ status: 429, type: 'insufficient_quota', code: 'insufficient_quota', retry: 'false' },
    message: expect.stringContaining('of this key'),
  });
  expect((await ask()).status).toBe(200);
  expect(await shown(value)).toMatchObject([
    { scope: 'api_key', metric: 'requests', window: 'day', limit: 1, used: 1, held: 0, remaining: 0 },
    { scope: 'api_key', metric: 'concurrent', window: 'none', limit: 3, used: 0, resets_at: null },
  ]);
  const path = `/projects/${tenant.id}/api_keys/${id}`;
  expect(await rig.admin('POST', path, { name: 'freer', limits: [] })).toMatchObject({
    id,
    name: 'freer',
    limits: [],
    allowed_models: ['tiny'],
  });
  expect((await ask({}, value)).status).toBe(200);
  expect((await ask({}, value)).status).toBe(200);
  await rig.admin('POST', path, { allowed_models: ['another'] });
  expect(await refusedAs(await ask({}, value))).toMatchObject({ status: 403, code: 'model_not_allowed' });
  for (const [bad, param] of [
    [{ metric: 'requests', limit: 1 }, 'limits.0.window'],
    [{ metric: 'concurrent', window: 'day', limit: 1 }, 'limits.0.window'],
    [{ metric: 'spend', window: 'month', limit: 0.5 }, 'limits.0.limit'],
  ] as const)
    expect(await adminStatus('POST', path, { limits: [bad] })).toMatchObject({ status: 400, error: { param } });
});

test('a burst of 500 at a barrier, of fixed output, with room for 100 and a rest: exactly 100 pass', async () => {
  await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 504 }]);
  await rig.admin('POST', `/projects/${tenant.id}/rate_limits/rl-*`, { max_requests_per_1_minute: 400 });
  const answers = await Promise.all(Array.from({ length: 500 }, () => ask()));
  const passed = answers.filter(({ status }) => status === 200);
  expect(passed).toHaveLength(100);
  const [quota] = (await shown()).filter(({ metric }) => metric === 'tokens');
  expect(quota).toMatchObject({ used: 500, held: 0, remaining: 4 });
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));
  expect(await rig.entries()).toHaveLength(100);
}, 60_000);

test('a burst whose requests end early: more pass as room comes back, and it is never over', async () => {
  await rig.admin('PUT', `/projects/${tenant.id}/token_quotas`, [{ window: 'lifetime', limit_tokens: 1000 }]);
  rig.pool.script = { tokens: [' a', ' b'] };
  let most = 0;
  let running = true;
  const watch = (async () => {
    while (running) {
      const [quota] = await shown();
      most = Math.max(most, (quota?.used ?? 0) + (quota?.held ?? 0));
      await rig.ports.clock.sleep(3);
    }
  })();
  // Each holds 100 and uses 5: ten at once fit, two hundred in all.
  let passed = 0;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 15; i++) if ((await ask({ max_tokens: 97 })).status === 200) passed++;
    }),
  );
  running = false;
  await watch;
  expect(passed).toBeGreaterThan(10);
  expect(most).toBeLessThanOrEqual(1000);
  expect((await shown())[0]).toMatchObject({ used: passed * 5, held: 0 });
}, 60_000);
