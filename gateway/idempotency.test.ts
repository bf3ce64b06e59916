// Idempotency keys on the Node host, as its own process that is killed; and what of prompts and answers stands on its disk.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MAX_CLOCK_SKEW_MS } from '../pool/wire/signing.ts';
import { eventually } from '../test/support/eventually.ts';
import { GatewayProcess } from '../test/support/gatewayProcess.ts';
import { GatewayRig } from '../test/support/gatewayRig.ts';
import { idempotencySuite } from '../test/support/idempotencySuite.ts';
import { ScriptedPool } from '../test/support/scriptedPool.ts';
import { systemClock } from './clock.ts';
import { MIGRATIONS } from './migrations.ts';
import { openDatabase } from './sqlite.ts';

idempotencySuite('idempotency keys on Node', async (limits) => {
  const pool = new ScriptedPool();
  await pool.start();
  const client = await GatewayProcess.start([pool], { limits });
  return {
    client,
    pool,
    async restart() {
      await client.kill();
      await client.boot();
    },
    async close() {
      await client.stop();
      await pool.kill();
    },
  };
});

test('a retry waits no longer than for the next start where a gateway died before its pool had taken the request', async () => {
  const pool = new ScriptedPool();
  await pool.start();
  const gateway = await GatewayProcess.start([pool]);
  try {
    const { key } = await gateway.tenant([{ window: 'lifetime', limit_tokens: 1000 }]);
    const body = { model: 'tiny', prompt: 'so', max_tokens: 3 };
    const ask = () => gateway.request('POST', '/v1/completions', { key, body, idempotencyKey: 'once' });
    pool.script = { beforeAnswer: () => new Promise(() => {}) };
    const cut = ask().catch(() => 'cut');
    await eventually('it is at the pool', async () => pool.requests.length > 0);
    await gateway.kill();
    expect(await cut).toBe('cut');
    pool.script = {};
    await gateway.boot();
    const bootedMs = Date.now();
    await eventually('the retry is answered', async () => (await ask()).status === 200);
    expect(Date.now() - bootedMs).toBeLessThan(10_000);
    const [first = '', second = ''] = pool.requests.map(({ context }) => context.requestId ?? '');
    expect(second).toBe(`${first}.2`);
    expect((await gateway.limits(key))[0]).toMatchObject({ used: 5, held: 0 });
  } finally {
    await gateway.stop();
    await pool.kill();
  }
}, 30_000);

test('of two retries at once the one that comes too late leaves the other its hold, whatever the settler does meanwhile', async () => {
  const pool = new ScriptedPool();
  await pool.start();
  // A gateway that has been up for longer than a pool would take what it signed at its start.
  const now = systemClock.now;
  systemClock.now = () => now() - 3 * MAX_CLOCK_SKEW_MS;
  const rig = new GatewayRig(pool);
  systemClock.now = now;
  try {
    await rig.refresh();
    const { key } = await rig.tenant([{ window: 'lifetime', limit_tokens: 1000 }]);
    const body = { model: 'tiny', prompt: 'so', max_tokens: 3 };
    const ask = () => rig.request('POST', '/v1/completions', { key, body, idempotencyKey: 'once' });
    const refusal = { message: 'no', type: 'server_error', param: null, code: 'internal_error' };
    pool.script = { refuse: { status: 500, ...refusal } };
    await ask();
    await rig.unheld();
    const gate = Promise.withResolvers<void>();
    pool.script = { beforeAnswer: () => gate.promise };
    const before = pool.requests.length;
    const retries = [ask(), ask()];
    await eventually('one is at the pool', async () => pool.requests.length > before);
    const early = await Promise.race(retries);
    expect(early.status).toBe(409);
    await rig.settler.tick();
    expect(pool.fenced.size).toBe(0);
    gate.resolve();
    expect((await Promise.all(retries)).map(({ status }) => status).sort()).toEqual([200, 409]);
    const served = (await rig.entries()).filter(({ outcome }) => outcome === 'completed');
    expect(served.map(({ outputTokens }) => outputTokens)).toEqual([3]);
    expect((await rig.limits(key))[0]).toMatchObject({ used: 5, held: 0 });
  } finally {
    await rig.stop();
  }
}, 30_000);

test('neither prompt nor answer nor key stands on the disk in the clear, and an archived tenant leaves no answer', async () => {
  const pool = new ScriptedPool();
  await pool.start();
  pool.script = { tokens: ['the', '-heron', '-wades'] };
  const gateway = await GatewayProcess.start([pool]);
  try {
    const { id, key } = await gateway.tenant();
    const kept = () =>
      readdirSync(gateway.folder).flatMap((name) => readFileSync(join(gateway.folder, name)).toString('latin1'));
    const body = { model: 'tiny', messages: [{ role: 'user', content: 'the-ostrich-hides' }] };
    for (const stream of [false, true]) {
      const ask = { key, body: { ...body, stream }, idempotencyKey: `the-magpie-keeps-${stream}` };
      await (await gateway.request('POST', '/v1/chat/completions', ask)).text();
      const replayed = await gateway.request('POST', '/v1/chat/completions', ask);
      expect(replayed.headers.get('idempotent-replayed')).toBe('true');
      expect(await replayed.text()).toContain('-heron');
    }
    for (const secret of ['ostrich', 'heron', 'magpie', key])
      expect(
        kept().some((text) => text.includes(secret)),
        secret,
      ).toBe(false);
    await gateway.admin('POST', `/projects/${id}/archive`);
    await gateway.kill();
    const db = openDatabase(join(gateway.folder, 'gateway.sqlite'), 'NORMAL', MIGRATIONS);
    expect(db.prepare('SELECT count(*) AS n FROM idempotency WHERE answer IS NOT NULL').get()).toEqual({ n: 0 });
    db.close();
  } finally {
    await gateway.stop();
    await pool.kill();
  }
});
