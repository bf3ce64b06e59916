// What a gateway owes to pools that come and go, whatever its host: one that an administrator enrolled announces itself and serves; who is
// not enrolled, signs with another key, is elsewhere than allowed, or repeats itself is not heard; who is removed serves no more.
import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '../../pool/wire/signing.ts';
import { eventually } from './eventually.ts';
import { ADMIN_KEY, bodyOf, type GatewayClient } from './gatewayClient.ts';
import { ScriptedPool } from './scriptedPool.ts';

interface Shown {
  source: string;
  ready: boolean;
  state: string | null;
  models: { id: string; state: string }[];
}

/** `gateway` has `configured` by configuration. */
export function directoryConformance(gateway: () => GatewayClient, configured: () => ScriptedPool): void {
  const pools: ScriptedPool[] = [];
  afterEach(async () => {
    for (const pool of pools.splice(0)) await pool.kill();
    configured().state = 'warm';
  });

  const running = async (id: string) => {
    const pool = new ScriptedPool(id);
    pools.push(pool);
    await pool.start();
    return pool;
  };
  const enrol = async (pool: ScriptedPool, origins: readonly string[] = [pool.url]) => {
    const body = { id: pool.id, allowed_origins: origins };
    const { key } = await gateway().admin<{ key: { id: string; secret_hex: string } }>('POST', '/pools', body);
    pool.keyId = key.id;
    pool.secretHex = key.secret_hex;
  };
  const enrolled = async (id: string) => {
    const pool = await running(id);
    await enrol(pool);
    return pool;
  };
  const shown = (id: string) => gateway().admin<Shown>('GET', `/pools/${id}`);
  const announce = async (message: Parameters<GatewayClient['announce']>[0]) => {
    const answer = await gateway().announce(message);
    return { status: answer.status, text: await answer.text() };
  };
  const chat = async () => {
    const { key } = await gateway().tenant();
    const body = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 };
    return (await gateway().request('POST', '/v1/chat/completions', { key, body })).status;
  };
  test('an enrolled pool serves when it has announced itself, without a restart, and no longer when it is removed', async () => {
    const far = await enrolled('far');
    expect(await shown('far')).toMatchObject({ source: 'api', ready: false, state: null });
    configured().state = 'draining';
    await eventually('nobody serves', async () => (await chat()) === 503);
    expect((await announce(far.heartbeat())).status).toBe(200);
    await eventually('it serves', async () => (await chat()) === 200);
    expect(far.requests.length).toBeGreaterThan(0);
    expect(await shown('far')).toMatchObject({ ready: true, state: 'warm', models: [{ id: 'tiny', state: 'warm' }] });
    await gateway().admin('DELETE', '/pools/far');
    await eventually('nobody serves again', async () => (await chat()) === 503);
    expect(await announce(far.heartbeat())).toMatchObject({
      status: 401,
      text: expect.stringContaining('not enrolled'),
    });
  });

  test('enrolled again it has another key, and the old one is worth nothing', async () => {
    const far = await enrolled('twice');
    const old = far.heartbeat();
    await gateway().admin('DELETE', '/pools/twice');
    await enrol(far);
    expect((await announce(old)).status).toBe(401);
    expect((await announce(far.heartbeat())).status).toBe(200);
    await gateway().admin('DELETE', '/pools/twice');
  });

  test('a heartbeat counts from who is enrolled, as signed, from where it may be, and once', async () => {
    const far = await enrolled('odd');
    const now = Date.now();
    const good = far.heartbeat({}, now);
    const status = { ...JSON.parse(good.body).status, pool_id: 'another' };
    const stranger = new ScriptedPool('stranger');
    const forged = new ScriptedPool('odd');
    forged.keyId = far.keyId;
    forged.secretHex = randomBytes(32).toString('hex');
    const refused: [string, { headers: Record<string, string>; body: string }, number, RegExp][] = [
      ['not enrolled', stranger.heartbeat({ url: far.url }), 401, /not enrolled/],
      ['another key', forged.heartbeat({ url: far.url }), 401, /signature/],
      ['changed on its way', { ...good, body: good.body.replace('"running":0', '"running":9') }, 401, /signature/],
      ['too old', far.heartbeat({}, now - MAX_CLOCK_SKEW_MS - 5000), 401, /clock/],
      ['elsewhere', far.heartbeat({ url: 'https://evil.example.com' }), 400, /not for https:..evil/],
      ['of another pool', far.heartbeat({ status }), 400, /another pool/],
      ['no heartbeat', far.heartbeat({ url: 'nowhere' }), 400, /url/],
    ];
    for (const [what, message, code, words] of refused) {
      const answer = await announce(message);
      expect([what, answer.status]).toEqual([what, code]);
      expect(answer.text).toMatch(words);
    }
    expect(await shown('odd')).toMatchObject({ state: null });
    expect((await announce(good)).status).toBe(200);
    expect((await announce(good)).status).toBe(401); // once
    expect((await announce(far.heartbeat({}, now - 10))).status).toBe(401); // older than what is known
    await gateway().admin('DELETE', '/pools/odd');
  });

  test('enrolments are refused where they can not be right; the list has all pools, and no key', async () => {
    const post = async (body: object) => {
      const answer = await gateway().request('POST', '/v1/organization/pools', { key: ADMIN_KEY, body });
      return { status: answer.status, body: await bodyOf(answer) };
    };
    for (const origin of ['http://far.example.com', 'https://far.example.com/path', 'https://far.example.com/', 'far'])
      expect(await post({ id: 'x', allowed_origins: [origin] })).toMatchObject({
        ...{ status: 400, body: { error: { param: 'allowed_origins.0' } } },
      });
    expect((await post({ id: configured().id, allowed_origins: ['https://far.example.com'] })).status).toBe(400);
    expect((await post({ id: 'Far', allowed_origins: ['https://far.example.com'] })).status).toBe(400);
    expect((await post({ id: 'listed', allowed_origins: ['https://far.example.com'] })).status).toBe(200);
    expect((await post({ id: 'listed', allowed_origins: ['https://far.example.com'] })).status).toBe(400);
    const { data } = await gateway().admin<{ data: { id: string; source: string }[] }>('GET', '/pools');
    expect(data.map(({ id, source }) => [id, source])).toEqual([
      [configured().id, 'configuration'],
      ['listed', 'api'],
    ]);
    expect(JSON.stringify(data)).not.toMatch(/[0-9a-f]{64}|secret/);
    await gateway().admin('DELETE', '/pools/listed');
  });
}
