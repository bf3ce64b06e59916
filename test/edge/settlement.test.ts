// That every bill is finished at the edge, whatever becomes of the invocation that began it: the client leaves, the process ends, the object is
// evicted, the alarm comes twice, late, or while the pool or the usage store fails.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type EdgeOptions, EdgeRig } from '../support/edgeRig.ts';
import { ADMIN_KEY, type Tenant } from '../support/gatewayClient.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

/** Soon enough for a test, late enough that a relay of its own comes first. */
const LOOK_AFTER_MS = 400;
const PROMPT = 9;

let pool: ScriptedPool;
let rig: EdgeRig;
let tenant: Tenant;

async function start(options: EdgeOptions = {}): Promise<void> {
  rig = await EdgeRig.start(pool, { lookAfterMs: LOOK_AFTER_MS, ...options });
  tenant = await rig.tenant([{ window: 'lifetime', limit_tokens: 1000 }]);
}

beforeEach(async () => {
  pool = new ScriptedPool();
  await pool.start();
});
afterEach(async () => {
  await rig.stop();
  await pool.kill();
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 15_000; waited += 20) {
    if (await holds()) return;
    await sleep(20);
  }
  throw new Error(`not within 15 s: ${what}`);
}

/** A stream that has brought its first token and waits for the others. */
async function streaming(signal?: AbortSignal): Promise<{ response: Response; goOn: () => void; requestId: string }> {
  const gate = Promise.withResolvers<void>();
  pool.script = { beforeToken: (position) => (position === 0 ? Promise.resolve() : gate.promise) };
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], max_tokens: 5, stream: true };
  const path = '/v1/chat/completions';
  const response = await rig.request('POST', path, { key: tenant.key, body, ...(signal && { signal }) });
  expect(response.status).toBe(200);
  const requestId = response.headers.get('x-request-id') ?? '';
  await until('a token is released', () => (pool.receipt(requestId)?.choices[0] ?? 0) > 0);
  return { response, goOn: gate.resolve, requestId };
}

const limit = async () => (await rig.limits(tenant.key))[0];
const settledAs = (tokens: number) => async () => {
  const state = await limit();
  return state?.held === 0 && state.used === tokens;
};
const alarmAt = () => rig.pull<number | null>(tenant.id, { lever: 'alarmAt' });
/** While an alarm runs there is none; it sets the next. */
const rearmed = async () => (await alarmAt()) !== null;
const ring = () => rig.pull(tenant.id, { lever: 'ring' });

async function exported(): Promise<{ request_id: string; output_tokens: number; outcome: string }[]> {
  const response = await rig.request('GET', `/v1/organization/usage/export?project_ids=${tenant.id}`, {
    key: ADMIN_KEY,
  });
  expect(response.status).toBe(200);
  return (await response.text())
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

describe('a client that leaves in the middle of its stream', () => {
  test('ends the request at its pool, and pays for what was released', async () => {
    await start({ lookAfterMs: 3_600_000 });
    const leaving = new AbortController();
    const { requestId } = await streaming(leaving.signal);
    leaving.abort();
    await until('it is settled', settledAs(PROMPT + 1));
    expect(await exported()).toMatchObject([{ request_id: requestId, output_tokens: 1, outcome: 'cancelled' }]);
    await until('its receipt is acknowledged', () => pool.unacknowledged === 0);
  });

  test('pays the same when its invocation is destroyed with it, by the alarm alone', async () => {
    await start();
    const { requestId } = await streaming();
    await rig.halt();
    await until('the pool has noticed', () => pool.receipt(requestId)?.outcome === 'cancelled');
    expect(pool.unacknowledged).toBe(1);
    await rig.boot();
    await sleep(LOOK_AFTER_MS * 2);
    await ring();
    expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 }); // a relay might be taking it elsewhere
    pool.age(60_000);
    // Nobody asks the gateway for anything: the object wakes by its alarm, settles, feeds and acknowledges.
    await until('its receipt is acknowledged', () => pool.unacknowledged === 0);
    expect(await limit()).toMatchObject({ used: PROMPT + 1, held: 0 });
    expect(await exported()).toMatchObject([{ request_id: requestId, output_tokens: 1, outcome: 'cancelled' }]);
    await until('nothing is left to wake for', async () => (await alarmAt()) === null);
  });
});

test('an object that is evicted between reservation and settlement goes on where it was', async () => {
  await start({ lookAfterMs: 3_600_000 });
  const { response, goOn } = await streaming();
  expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 });
  await expect(rig.pull(tenant.id, { lever: 'crash' })).rejects.toThrow(/crashed/);
  expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 });
  goOn();
  expect(await response.text()).toMatch(/\[DONE\]\s*$/);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
});

test('an alarm that comes while the request still runs leaves it alone', async () => {
  await start();
  const { response, goOn } = await streaming();
  await sleep(LOOK_AFTER_MS * 2);
  await ring();
  expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 });
  await until('it wakes again', rearmed);
  goOn();
  expect(await response.text()).toMatch(/\[DONE\]\s*$/);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
});

test('alarms that are repeated, at once and in turn, book and export once', async () => {
  await start({ feedDelayMs: 3_600_000, lookAfterMs: 3_600_000 });
  const { response, goOn, requestId } = await streaming();
  goOn();
  await response.text();
  await Promise.all([ring(), ring(), ring()]);
  await ring();
  expect((await exported()).map((row) => row.request_id)).toEqual([requestId]);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
  expect(pool.unacknowledged).toBe(0);
});

test('a pool that is down when the alarm comes is asked again, and what it had released is billed', async () => {
  await start();
  const { response } = await streaming();
  await pool.kill();
  await response.text().catch(() => {});
  await sleep(LOOK_AFTER_MS * 2);
  await ring();
  expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 });
  await until('it wakes again', rearmed);
  await pool.start();
  await until('it is settled', settledAs(PROMPT + 1));
});

test('while the usage store fails nothing is acknowledged, and nothing is lost', async () => {
  await start();
  await rig.sql('ALTER TABLE usage RENAME TO gone');
  const { response, goOn, requestId } = await streaming();
  goOn();
  await response.text();
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
  await ring();
  expect(pool.unacknowledged).toBe(1);
  await until('it wakes again', rearmed);
  await rig.sql('ALTER TABLE gone RENAME TO usage');
  await ring();
  expect((await exported()).map((row) => row.request_id)).toEqual([requestId]);
  expect(pool.unacknowledged).toBe(0);
});

test('a receipt whose acknowledgement got lost is acknowledged by the collector, and not billed again', async () => {
  await start({ feedDelayMs: 3_600_000, lookAfterMs: 3_600_000 });
  const { response, goOn } = await streaming();
  goOn();
  await response.text();
  await pool.kill();
  await ring();
  expect(await exported()).toHaveLength(1);
  await pool.start();
  expect(pool.unacknowledged).toBe(1);
  await rig.pull(tenant.id, { lever: 'scheduled' });
  expect(pool.unacknowledged).toBe(0);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
  expect(await exported()).toHaveLength(1);
});

test('a stream whose connection broke is left by the collector to its relay, though its receipt says cancelled', async () => {
  await start({ lookAfterMs: 3_600_000, limits: { failoverWaitMs: 10_000 } });
  const { response, goOn, requestId } = await streaming();
  pool.state = 'draining'; // nowhere to go on, for now
  Object.assign(pool.script, { tamper: { event: 2, how: 'cut' } });
  goOn();
  await until('the pool has noticed', () => pool.receipt(requestId)?.outcome === 'cancelled');
  await rig.pull(tenant.id, { lever: 'scheduled' });
  pool.script = {};
  pool.state = 'warm';
  expect(await response.text()).toMatch(/\[DONE\]\s*$/);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
  expect(await exported()).toMatchObject([{ request_id: requestId, output_tokens: 5, outcome: 'completed' }]);
});

test('a stream whose connection broke is left by the alarm, too, as long as its relay may go on elsewhere', async () => {
  await start({ limits: { failoverWaitMs: 10_000 } });
  const { response, goOn, requestId } = await streaming();
  pool.state = 'draining';
  Object.assign(pool.script, { tamper: { event: 2, how: 'cut' } });
  goOn();
  await until('the pool has noticed', () => pool.receipt(requestId)?.outcome === 'cancelled');
  await sleep(LOOK_AFTER_MS * 2);
  await ring();
  expect(await limit()).toMatchObject({ used: 0, held: PROMPT + 5 });
  pool.script = {};
  pool.state = 'warm';
  expect(await response.text()).toMatch(/\[DONE\]\s*$/);
  expect(await limit()).toMatchObject({ used: PROMPT + 5, held: 0 });
  expect(await exported()).toMatchObject([{ request_id: requestId, output_tokens: 5, outcome: 'completed' }]);
});

test('an object that lost its alarm sets it when it wakes with something open', async () => {
  await start({ feedDelayMs: 3_600_000, lookAfterMs: 3_600_000 });
  const { response, goOn } = await streaming();
  goOn();
  await response.text();
  await rig.pull(tenant.id, { lever: 'loseAlarm' });
  expect(await alarmAt()).toBeNull();
  await expect(rig.pull(tenant.id, { lever: 'crash' })).rejects.toThrow(/crashed/);
  await limit();
  await until('its receipt is acknowledged', () => pool.unacknowledged === 0);
});
