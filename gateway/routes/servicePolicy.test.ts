// What a project's service policy and a request's own wishes come to at the pool: shares, and one cache or none.
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';
import { text } from '../sql.ts';

let rig: GatewayRig;
let tenant: Tenant;
beforeEach(async () => {
  rig = await GatewayRig.start();
  tenant = await rig.tenant();
});
afterEach(() => rig.stop());

const put = (body: unknown, id = tenant.id) =>
  rig.request('PUT', `/v1/organization/projects/${id}/service_policy`, { key: ADMIN_KEY, body });

/** What the pool was told of a request with these fields. */
async function sent(over: Record<string, unknown> = {}, key = tenant.key) {
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], ...over };
  const response = await rig.request('POST', '/v1/chat/completions', { key, body });
  expect(response.status, await response.clone().text()).toBe(200);
  const request = rig.pool.requests.at(-1);
  expect(JSON.stringify(request?.body)).not.toContain('salt');
  return { ...request?.context, retention: request?.body.cache_retention };
}

async function secondKey(): Promise<string> {
  const path = `/projects/${tenant.id}/service_accounts`;
  const made = await rig.admin<{ api_key: { value: string } }>('POST', path, { name: 'other' });
  return made.api_key.value;
}

describe('the policy', () => {
  test('is neutral until one is put, and counts from the next request on', async () => {
    const neutral = { weight: 1, kv_floor_share: 0, cache_scope: 'project' };
    expect(await rig.admin('GET', `/projects/${tenant.id}/service_policy`)).toMatchObject(neutral);
    expect(await sent()).toMatchObject({ weight: 1, kvFloorShare: 0, cacheScope: expect.any(String) });
    const wanted = { weight: 2.5, kv_floor_share: 0.3, cache_scope: 'project' };
    expect(await bodyOf(await put(wanted))).toMatchObject(wanted);
    expect(await rig.admin('GET', `/projects/${tenant.id}/service_policy`)).toMatchObject(wanted);
    expect(await sent()).toMatchObject({ weight: 2.5, kvFloorShare: 0.3 });
    await put({});
    expect(await rig.admin('GET', `/projects/${tenant.id}/service_policy`)).toMatchObject(neutral);
  });

  test.each([
    [{ weight: 0 }, 'weight'],
    [{ weight: 1e9 }, 'weight'],
    [{ weight: 0.00001 }, 'weight'],
    [{ kv_floor_share: 1.5 }, 'kv_floor_share'],
    [{ kv_floor_share: 0.123456 }, 'kv_floor_share'],
    [{ cache_scope: 'everybody' }, 'cache_scope'],
    [{ wieght: 2 }, 'wieght'],
  ])('%j is refused by name', async (body, param) => {
    const response = await put(body);
    expect(response.status).toBe(400);
    expect((await bodyOf(response)).error.param).toBe(param);
  });

  test('is what a pool can be told, whatever binary fractions add to it', async () => {
    const put1 = await put({ weight: 0.1 + 0.2, kv_floor_share: 1e-20 });
    expect(await bodyOf(put1)).toMatchObject({ weight: 0.3, kv_floor_share: 0 });
    expect(await sent()).toMatchObject({ weight: 0.3, kvFloorShare: 0 });
  });

  test('needs a project that exists and is not archived', async () => {
    expect((await put({}, 'proj_000000000000000000000000')).status).toBe(404);
    await rig.admin('POST', `/projects/${tenant.id}/archive`);
    expect((await put({})).status).toBe(400);
  });
});

describe('the cache', () => {
  test('is the project’s, the same for each of its keys, and another’s never', async () => {
    const own = await sent();
    expect(await sent({}, await secondKey())).toMatchObject({ cacheScope: own.cacheScope, cacheSeal: own.cacheSeal });
    const other = await sent({}, (await rig.tenant()).key);
    expect(own.cacheScope).toMatch(/^[0-9a-f]{32}$/);
    expect(own.cacheSeal).toMatch(/^[0-9a-f]{64}$/);
    expect(other.cacheScope).not.toBe(own.cacheScope);
    expect(other.cacheSeal).not.toBe(own.cacheSeal);
  });

  test('is narrowed by a salt, within the tenant alone', async () => {
    const own = await sent();
    const a = await sent({ cache_salt: 'team a' });
    expect(await sent({ cache_salt: 'team a' })).toMatchObject({ cacheScope: a.cacheScope, cacheSeal: a.cacheSeal });
    const b = await sent({ cache_salt: 'team b' });
    const others = await sent({ cache_salt: 'team a' }, (await rig.tenant()).key);
    expect(new Set([own, a, b, others].map(({ cacheScope }) => cacheScope)).size).toBe(4);
    expect(new Set([own, a, b, others].map(({ cacheSeal }) => cacheSeal)).size).toBe(4);
  });

  test('is each key’s own where the policy says so', async () => {
    const projects = await sent();
    await put({ cache_scope: 'api_key' });
    const one = await sent();
    const two = await sent({}, await secondKey());
    expect(new Set([projects, one, two].map(({ cacheScope }) => cacheScope)).size).toBe(3);
    expect((await sent()).cacheScope).toBe(one.cacheScope);
  });

  test('is none where the policy or the request says so', async () => {
    const off = await sent({ cache: false, cache_salt: 'x' });
    await put({ cache_scope: 'none', weight: 3 });
    const never = await sent();
    for (const told of [off, never]) {
      expect(told).not.toHaveProperty('cacheScope');
      expect(told).not.toHaveProperty('cacheSeal');
    }
    expect(never).toMatchObject({ weight: 3 });
  });

  test.each([
    [{ cache_salt: '' }, 'cache_salt'],
    [{ cache_salt: 'x'.repeat(257) }, 'cache_salt'],
    [{ cache_salt: 5 }, 'cache_salt'],
    [{ cache_retention: 101 }, 'cache_retention'],
    [{ cache_retention: 0.5 }, 'cache_retention'],
  ])('%j is refused by name', async (fields, param) => {
    const body = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], ...fields };
    const response = await rig.request('POST', '/v1/chat/completions', { key: tenant.key, body });
    expect(response.status).toBe(400);
    expect((await bodyOf(response)).error.param).toBe(param);
  });

  test('a retention reaches the pool', async () => {
    expect((await sent({ cache_retention: 90 })).retention).toBe(90);
  });

  test('can’t be derived again once its project is archived: the salt is gone from the files, too', async () => {
    const { salt } = rig.db.prepare('SELECT salt FROM cache_salts WHERE project = ?').get(tenant.id) ?? {};
    if (!(salt instanceof Uint8Array)) throw new Error('a project has a salt');
    const file = text(rig.db.prepare("SELECT file FROM pragma_database_list WHERE name = 'main'").get() ?? {}, 'file');
    const stored = () => [file, `${file}-wal`].some((path) => readFileSync(path).includes(Buffer.from(salt)));
    expect(stored()).toBe(true);
    await rig.admin('POST', `/projects/${tenant.id}/archive`);
    expect(stored()).toBe(false);
    expect(await rig.ports.directory.service(tenant.id)).toMatchObject({ cacheSalt: null });
  });
});
