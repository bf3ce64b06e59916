// Who administers, and what is kept of it: admin keys beside the configured one, rotation of a tenant's key, and an audit log of every
// action that can't be changed and holds no secret.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig } from '../../test/support/gatewayRig.ts';
import { createApp } from '../app.ts';
import { AUDITED } from '../audit/record.ts';
import { keyHashes } from '../keys/apiKey.ts';

let rig: GatewayRig;
beforeEach(async () => {
  rig = await GatewayRig.start();
});
afterEach(() => rig.stop());

interface AuditShown {
  id: string;
  type: string;
  actor: { api_key: { id: string } };
  project?: { id: string };
  [type: string]: unknown;
}
interface List<T> {
  data: T[];
  has_more: boolean;
  last_id: string | null;
}
const org = async (method: string, path: string, key = ADMIN_KEY, body?: unknown) =>
  rig.request(method, `/v1/organization${path}`, { key, body });
const events = async (query = '') => rig.admin<List<AuditShown>>('GET', `/audit_logs?limit=100${query}`);

test('an admin key opens what the configured one opens, until it is deleted or its time is over', async () => {
  const make = (body: object) => rig.admin<{ id: string; value: string }>('POST', '/admin_api_keys', body);
  const { id, value } = await make({ name: 'robot' });
  expect(value).toMatch(/^sk-admin-[1-9A-HJ-NP-Za-km-z]{50}$/);
  expect((await org('GET', '/projects', value)).status).toBe(200);
  expect((await rig.request('GET', '/metrics', { key: value })).status).toBe(200);
  expect((await rig.request('GET', '/v1/models', { key: value })).status).toBe(401);
  const listed = await rig.admin<List<object>>('GET', '/admin_api_keys');
  expect(listed.data).toMatchObject([
    { object: 'organization.admin_api_key', id, name: 'robot', last_used_at: expect.any(Number), expires_at: null },
  ]);
  expect(JSON.stringify(listed)).not.toContain(value);
  expect(
    rig.db
      .prepare('SELECT * FROM admin_keys')
      .all()
      .map((row) => JSON.stringify(row))
      .join(),
  ).not.toContain(value);
  expect(await bodyOf<object>(await org('DELETE', `/admin_api_keys/${id}`, value))).toEqual({
    ...{ object: 'organization.admin_api_key.deleted', id, deleted: true },
  });
  expect((await org('GET', '/projects', value)).status).toBe(401);
  expect((await org('GET', '/projects')).status).toBe(200);
  expect((await org('DELETE', `/admin_api_keys/${id}`)).status).toBe(404);
  const short = await make({ name: 'short', expires_in_seconds: 1 });
  const hashes = keyHashes(short.value, rig.ports.keyring.peppers);
  expect(await rig.ports.adminKeys.use(hashes, Date.now() + 2000)).toBeUndefined();
  expect(await rig.ports.adminKeys.use(hashes, Date.now())).toMatchObject({ id: short.id });
});

test('a rotated key keeps its id and limits; the old value is good for its grace and no longer', async () => {
  const { id, key, keyId } = await rig.tenant();
  const path = `/projects/${id}/api_keys/${keyId}/rotate`;
  const models = async (value: string) => (await rig.request('GET', '/v1/models', { key: value })).status;
  const rotate = (body: object) =>
    rig.admin<{ id: string; value: string; redacted_value: string; previous_value_expires_at: number }>(
      'POST',
      path,
      body,
    );
  const first = await rotate({ grace_seconds: 3600 });
  expect(first.id).toBe(keyId);
  expect(first.redacted_value.slice(-4)).toBe(first.value.slice(-4));
  expect(first.previous_value_expires_at).toBeGreaterThan(Date.now() / 1000 + 3590);
  expect([await models(key), await models(first.value)]).toEqual([200, 200]);
  const second = await rotate({});
  expect([await models(key), await models(first.value), await models(second.value)]).toEqual([401, 401, 200]);
  expect((await org('POST', `/projects/${id}/api_keys/key_none/rotate`, ADMIN_KEY, {})).status).toBe(404);
  await rig.admin('DELETE', `/projects/${id}/api_keys/${keyId}`);
  expect(await models(second.value)).toBe(401);
});

test('every action is in the log with its actor and target, newest first, and nothing secret', async () => {
  const { id, key, keyId } = await rig.tenant([{ window: 'day', limit_tokens: 5 }]);
  const admin = await rig.admin<{ id: string; value: string }>('POST', '/admin_api_keys', { name: 'robot' });
  await org('POST', `/projects/${id}/rate_limits/rl-tiny`, admin.value, { max_requests_per_1_minute: 3 });
  const rotated = await bodyOf<{ value: string }>(
    await org('POST', `/projects/${id}/api_keys/${keyId}/rotate`, admin.value, { grace_seconds: 5 }),
  );
  expect((await org('POST', `/projects/${id}/api_keys/${keyId}`, admin.value, { nonsense: 1 })).status).toBe(400);
  const { data } = await events();
  expect(data.map(({ type, actor, project, ...rest }) => [type, actor.api_key.id, project?.id, rest[type]])).toEqual([
    ['api_key.rotated', admin.id, id, { id: keyId }],
    ['rate_limit.updated', admin.id, id, { id: 'rl-tiny' }],
    ['admin_api_key.created', 'bootstrap', undefined, { id: admin.id }],
    ['service_account.created', 'bootstrap', id, { id: expect.stringMatching(/^svc_acct_/) }],
    ['token_quotas.updated', 'bootstrap', id, { id }],
    ['project.created', 'bootstrap', undefined, { id }],
  ]);
  const text = JSON.stringify(data);
  for (const secret of [key, admin.value, rotated.value, ADMIN_KEY]) expect(text).not.toContain(secret);

  const types = async (query: string) => (await events(query)).data.map(({ type }) => type);
  expect(await types(`&actor_ids[]=${admin.id}&event_types[]=api_key.rotated&event_types[]=api_key.deleted`)).toEqual([
    'api_key.rotated',
  ]);
  expect(await types(`&resource_ids=${id},rl-tiny`)).toHaveLength(3);
  expect(await types(`&project_ids=${id}&effective_at[gte]=${Math.floor(Date.now() / 1000) + 10}`)).toEqual([]);
  expect(await types(`&effective_at[gt]=0&effective_at[lte]=${Math.ceil(Date.now() / 1000)}`)).toHaveLength(6);
  const page = await rig.admin<List<AuditShown>>('GET', '/audit_logs?limit=4');
  const rest = await rig.admin<List<AuditShown>>('GET', `/audit_logs?limit=4&after=${page.last_id}`);
  expect([...page.data, ...rest.data].map((one) => one.id)).toEqual(data.map((one) => one.id));
  expect([page.has_more, rest.has_more]).toEqual([true, false]);
});

test('the log only grows', async () => {
  await rig.tenant();
  expect(() => rig.db.exec("UPDATE audit_log SET actor = 'nobody'")).toThrow(/only grows/);
  expect(() => rig.db.exec('DELETE FROM audit_log')).toThrow(/only grows/);
  expect((await events()).data).toHaveLength(3);
});

test('no route that changes something is without a name in the log', () => {
  const changing = createApp(rig.ports)
    .routes.filter(({ method, path }) => !/^(GET|ALL)$/.test(method) && path.startsWith('/v1/organization'))
    .map(({ method, path }) => `${method} ${path}`);
  expect(changing.length).toBeGreaterThan(15);
  expect(new Set(changing)).toEqual(new Set(AUDITED.keys()));
});

test('keys that the newest pepper has not hashed yet are told', async () => {
  const { id, keyId } = await rig.tenant();
  expect(await rig.admin('GET', `/projects/${id}/key_stragglers`)).toMatchObject({
    data: [],
    newest_pepper_version: 1,
  });
  rig.db.exec('UPDATE key_hashes SET pepper_version = 0');
  expect(await rig.admin('GET', `/projects/${id}/key_stragglers`)).toMatchObject({
    data: [{ id: keyId, pepper_version: 0, last_used_at: null }],
  });
});
