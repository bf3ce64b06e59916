// Public prefixes at the gateway: declared, listed, withdrawn, kept, and pushed to a pool whenever it has another set.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig } from '../../test/support/gatewayRig.ts';
import { SqlPrefixes } from '../directory/sqlPrefixes.ts';
import { PublicPrefixes } from '../relay/publicPrefixes.ts';
import { SerialTurns } from '../turns.ts';

let rig: GatewayRig;
beforeEach(async () => {
  rig = await GatewayRig.start();
});
afterEach(() => rig.stop());

interface Listed {
  id: string;
  source: string;
  text?: string;
  pools: { pool: string; state: string; tokens: number }[];
}

const TEXT = 'You are the assistant of a bank.';
const declare = (body: unknown) => rig.request('POST', '/v1/organization/public_prefixes', { key: ADMIN_KEY, body });
const declared = (over: object = {}) =>
  rig.admin<Listed>('POST', '/public_prefixes', { model: 'tiny', text: TEXT, ...over });
const list = async () => (await rig.admin<{ data: Listed[] }>('GET', '/public_prefixes')).data;
const atPool = () => rig.pool.prefixes?.prefixes.map(({ id }) => id) ?? null;

describe('declaring', () => {
  test('is at every pool by the time it is answered, and so is deleting', async () => {
    const one = await declared();
    expect(one).toMatchObject({ source: 'api', text: TEXT, created_at: expect.any(Number) });
    expect(one.pools).toEqual([{ pool: 'pool-a', state: 'declared', tokens: TEXT.length }]);
    const two = await declared({ text: `${TEXT} Be brief.` });
    expect(atPool()).toEqual([one.id, two.id]);
    expect((await list()).map(({ id }) => id)).toEqual([one.id, two.id]);
    expect(await rig.admin('DELETE', `/public_prefixes/${one.id}`)).toMatchObject({ id: one.id, deleted: true });
    expect(atPool()).toEqual([two.id]);
    expect((await list()).map(({ id }) => id)).toEqual([two.id]);
  });

  test.each([
    [{}, 'text'],
    [{ text: TEXT, token_ids: [1] }, 'text'],
    [{ text: 'short' }, 'text'],
    [{ text: 'x'.repeat(300_000) }, 'text'],
    [{ token_ids: [-1] }, 'token_ids.0'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages.0.role'],
    [{ text: TEXT, model: 'other' }, 'model'],
    [{ text: TEXT, name: 'x' }, 'name'],
  ])('%.40j is refused by name, and nothing is kept', async (fields, param) => {
    const response = await declare({ model: 'tiny', ...fields });
    expect([400, 404, 413]).toContain(response.status);
    if (response.status !== 413) expect((await bodyOf(response)).error.param).toBe(param);
    expect(await list()).toEqual([]);
  });

  test('needs a pool that can try it', async () => {
    rig.pool.state = 'draining';
    await rig.refresh();
    expect((await declare({ model: 'tiny', text: TEXT })).status).toBe(503);
  });

  test('needs the admin key, and an id that exists', async () => {
    const { key } = await rig.tenant();
    const body = { model: 'tiny', text: TEXT };
    expect((await rig.request('POST', '/v1/organization/public_prefixes', { key, body })).status).toBe(403);
    const gone = await rig.request('DELETE', '/v1/organization/public_prefixes/prefix_x', { key: ADMIN_KEY });
    expect(gone.status).toBe(404);
  });
});

describe('a pool', () => {
  test('that started again gets them at its next status, and is then left alone', async () => {
    const { id } = await declared();
    await rig.pool.kill();
    await rig.pool.start();
    expect(atPool()).toBeNull();
    // The first question may still go into the connection that died.
    for (let asked = 0; asked < 3 && atPool() === null; asked++) await rig.refresh();
    expect(atPool()).toEqual([id]);
    const { prefixes } = rig.pool;
    await rig.refresh();
    expect(rig.pool.prefixes).toBe(prefixes);
  });

  test('gets what was declared while it could not be reached', async () => {
    const { id } = await declared();
    rig.pool.script = { forgeAnswers: true };
    await rig.admin('DELETE', `/public_prefixes/${id}`);
    expect(rig.logged.join()).toContain('public_prefixes_failed');
    rig.pool.script = {};
    await rig.refresh();
    expect(atPool()).toEqual([]);
  });

  test('gets only those of its models, under a key that is the installation’s own', async () => {
    const { ports, central } = rig;
    const configured = [
      { model: 'tiny', text: TEXT },
      { model: 'elsewhere', text: TEXT },
    ];
    const make = () =>
      new PublicPrefixes(new SqlPrefixes(central), configured, ports.keyring, ports.log, new SerialTurns());
    const set = make().setFor(new Set(['tiny']));
    expect(set).toMatchObject({ prefixes: [{ model: 'tiny' }], seal: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(make().setFor(new Set(['tiny']))).toEqual(set);
  });
});

describe('the most there may be', () => {
  const many = (count: number) => Array.from({ length: count }, (_, i) => ({ model: 'tiny', text: `${TEXT} ${i}` }));

  test('is kept to also by two that are declared at once', async () => {
    const { publicPrefixes } = rig.ports;
    for (const [i, one] of many(255).entries()) await publicPrefixes.add({ id: `p${i}`, ...one }, 0);
    const answers = await Promise.all(['a', 'b'].map((end) => declare({ model: 'tiny', text: `${TEXT} ${end}` })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400]);
    expect(atPool()).toHaveLength(256);
  });

  test('a configuration that goes over it leaves out what was declared last, and says so', async () => {
    const { ports, central, logged } = rig;
    for (const [i, one] of many(100).entries()) await ports.publicPrefixes.add({ id: `p${i}`, ...one }, 0);
    const after = new PublicPrefixes(new SqlPrefixes(central), many(200), ports.keyring, ports.log, new SerialTurns());
    await after.load();
    const { prefixes } = after.setFor(new Set(['tiny']));
    expect(prefixes.slice(-56).map(({ id }) => id)).toEqual(Array.from({ length: 56 }, (_, i) => `p${i}`));
    expect(prefixes).toHaveLength(256);
    expect(logged.join()).toMatch(/public_prefixes_over_limits.*"left_out":44/);
  });
});

test('what was declared is there again after a restart of the gateway', async () => {
  const { id } = await declared();
  const { ports, central } = rig;
  const after = new PublicPrefixes(new SqlPrefixes(central), [], ports.keyring, ports.log, new SerialTurns());
  await after.load();
  expect(after.all).toMatchObject([{ prefix: { id, model: 'tiny', text: TEXT }, source: 'api' }]);
});

test('one of the configuration is listed and can’t be deleted here', async () => {
  await rig.stop();
  rig = await GatewayRig.start({}, [{ model: 'tiny', text: TEXT }]);
  const [prefix] = await list();
  expect(prefix).toMatchObject({ source: 'configuration', created_at: null, pools: [{ state: 'declared' }] });
  expect(atPool()).toEqual([prefix?.id]);
  const response = await rig.request('DELETE', `/v1/organization/public_prefixes/${prefix?.id}`, { key: ADMIN_KEY });
  expect(await bodyOf(response)).toMatchObject({ error: { message: expect.stringContaining('configuration') } });
  expect(await list()).toHaveLength(1);
});
