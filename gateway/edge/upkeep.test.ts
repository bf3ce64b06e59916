// What an alarm does, with a clock that the test turns: a real ledger on SQLite, a real pool over HTTP. How it fares in workerd is in
// test/edge.
import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { poolStatus } from '../../pool/wire/events.ts';
import { eventually } from '../../test/support/eventually.ts';
import { startPagedPool } from '../../test/support/pagedPool.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { askPool, collect, inferenceContext } from '../../test/support/signedPoolClient.ts';
import { LocalAsyncSql } from '../asyncSql.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { NewAttempt } from '../ledger/port.ts';
import { SqlLedger } from '../ledger/sqlLedger.ts';
import { jsonLog } from '../log.ts';
import { MIGRATIONS } from '../migrations.ts';
import { PoolClient } from '../relay/poolClient.ts';
import { PoolRegistry } from '../relay/poolRegistry.ts';
import { openDatabase, type SqliteStore } from '../sqlite.ts';
import { SqlUsage } from '../usage/sqlUsage.ts';
import { Looks } from './looks.ts';
import { Upkeep } from './upkeep.ts';

const TENANT = 'proj_000000000000000000000001';
const HASH = { pepperVersion: 1, hash: 'ab'.repeat(32) };
const LOOK_AFTER_MS = 30_000;
const FAILOVER_WAIT_MS = 15_000;

let folder: string;
let db: SqliteStore;
let ledger: SqlLedger;
let usage: SqlUsage;
let pool: ScriptedPool;
let upkeep: Upkeep;
let startMs: number;
/** The object's time beside the world's. */
let aheadMs = 0;
const now = () => startMs + aheadMs;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', MIGRATIONS);
  ledger = new SqlLedger(db);
  usage = new SqlUsage(new LocalAsyncSql(db));
  pool = new ScriptedPool();
  await pool.start();
  startMs = Date.now();
  aheadMs = 0;
  upkeep = upkeepOf({ ...pool, url: pool.url, secret: Buffer.from(pool.secretHex, 'hex') });
  await ledger.openTenant(TENANT);
  const key = { id: 'k', tenant: TENANT, serviceAccountId: null, name: 'k', redacted: '', createdAtMs: startMs };
  await ledger.addKey({ ...key, lastUsedAtMs: null, expiresAtMs: null, models: null }, HASH);
});
afterEach(async () => {
  await pool.kill();
  db.close();
  rmSync(folder, { recursive: true });
});

function upkeepOf({ id, url, keyId, secret }: { id: string; url: string; keyId: string; secret: Uint8Array }): Upkeep {
  const clock: Clock = { ...systemClock, now };
  const client = new PoolClient(
    { id, url, keyId, secret: createSecretKey(secret) },
    { fetch, clock: systemClock, random: (count) => randomBytes(count) },
  );
  const registry = new PoolRegistry([{ client, models: [] }], clock);
  const log = jsonLog(() => {}, now);
  return new Upkeep({
    ...{ ledger, registry, usage, clock, log, lookAfterMs: LOOK_AFTER_MS, failoverWaitMs: FAILOVER_WAIT_MS },
    pools: { refresh: async () => {} },
  });
}

const rows = () => usage.page({ startMs: 0, endMs: Number.MAX_SAFE_INTEGER }, 0, 1e9, 10);

/** A reservation whose invocation ended before its request reached a pool. */
async function reserve(requestId: string, poolId = pool.id, idempotency?: NewAttempt): Promise<void> {
  const demand = { promptTokens: 10, promptExact: true, choices: 1, outputTokens: 10, outputFlexible: false };
  const times = { nowMs: now(), deadlineMs: now() + 600_000, expiresMs: now() + 630_000 };
  const command = {
    tenant: TENANT,
    hashes: [HASH],
    requestId,
    model: 'tiny',
    pool: poolId,
    demand,
    price: null,
    ...times,
    ...(idempotency && { idempotency }),
  };
  expect(await ledger.admit(command)).toMatchObject({ kind: 'granted' });
}

test('with nothing open there is nothing to wake for', async () => {
  expect(await upkeep.run()).toBeNull();
});

test('a hold that never reached its pool is released once no signature for it can be accepted any more', async () => {
  await reserve('r1');
  expect(await upkeep.run()).toBe(startMs + LOOK_AFTER_MS);
  aheadMs = LOOK_AFTER_MS;
  expect(await upkeep.run()).toBeGreaterThan(now());
  expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
  // Signed within 30 s or not at all, and refused by any pool's clock 60 s after; by then its relay has found no other pool for 30 s.
  aheadMs = 120_000;
  await upkeep.run();
  expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
  aheadMs = 150_000;
  expect(await upkeep.run()).toBeNull();
  expect(await ledger.holds({ limit: 10 })).toEqual([]);
  expect(await rows()).toMatchObject([{ requestId: 'r1', inputTokens: 0, outputTokens: 0, outcome: 'failed' }]);
});

test('a request that waits at its pool for its model to wake is not taken for one that never came', async () => {
  const sleeper = await startPagedPool({ model: { wakeMs: 1500 } });
  try {
    const { address } = sleeper;
    const own = upkeepOf({ ...address, id: address.poolId });
    await askPool(address, { path: '/pool/sleep', body: {} });
    await reserve('r1', address.poolId);
    const body = { model: 'bytes', prompt: 'so', max_tokens: 3, logit_bias: { 257: -100 } };
    const context = { ...inferenceContext(), tenant: TENANT, requestId: 'r1', holdTokens: 20 };
    const asked = askPool(address, { path: '/v1/completions', body, context });
    await eventually('it has woken the model', async () => {
      const { json } = await askPool(address, { method: 'GET', path: '/pool/status' });
      return poolStatus.parse(json).state === 'waking';
    });
    aheadMs = 100_000; // past the age at which a signature for it is accepted
    expect(await own.run()).not.toBeNull();
    expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
    await collect(await asked);
    aheadMs = 200_000;
    expect(await own.run()).toBeNull();
    expect(await rows()).toMatchObject([{ requestId: 'r1', inputTokens: 2, outputTokens: 3, outcome: 'completed' }]);
  } finally {
    await sleeper.close();
  }
});

test('a hold that its relay left is looked after at once, and released where the pool will not take it any more', async () => {
  await reserve('r1');
  upkeep.looks.leave('r1', now());
  expect(await upkeep.run()).toBe(startMs + 100);
  aheadMs = 101;
  expect(await upkeep.run()).toBeNull();
  expect(pool.fenced).toEqual(new Set(['r1']));
});

test('of a pool that knows no such word it is released once no signature for it can be accepted any more', async () => {
  pool.script = { olderVersion: true };
  await reserve('r1');
  upkeep.looks.leave('r1', now());
  aheadMs = 60_000;
  expect(await upkeep.run()).not.toBeNull();
  aheadMs = 75_001;
  expect(await upkeep.run()).toBeNull();
});

test('an alarm that comes days late finds the hold unresolved, still counting, and ends it', async () => {
  await reserve('r1', 'pool-that-is-gone');
  aheadMs = 3 * 86_400_000;
  const nextMs = await upkeep.run();
  expect(await ledger.holds({ limit: 10 })).toMatchObject([{ state: 'unresolved' }]);
  expect(nextMs).toBe(now() + 600_000);
});

test('one alarm asks about a bounded number, and the next is due at once for the others', async () => {
  for (let i = 0; i < 130; i++) await reserve(`r${String(i).padStart(3, '0')}`);
  aheadMs = 130_000;
  const nextMs = await upkeep.run();
  expect(await ledger.holds({ limit: 1000 })).toHaveLength(30);
  expect(nextMs).toBeLessThanOrEqual(now());
  expect(await upkeep.run()).toBeNull();
});

test('an object that nobody asks any more wakes to forget what was kept under its idempotency keys', async () => {
  const presented = { keyHash: 'key', bodyDigest: 'body' };
  await reserve('r1', pool.id, { ...presented, seed: 1, keptUntilMs: startMs + 86_400_000 });
  const bill = {
    inputTokens: 10,
    cachedInputTokens: 0,
    outputTokens: 3,
    outcome: 'completed' as const,
    positions: [3],
  };
  const answer = { keyHash: 'key', sealed: new Uint8Array(5) };
  await ledger.settle({ tenant: TENANT, requestId: 'r1', bill, nowMs: now(), answer });
  expect(await upkeep.run()).toBe(startMs + 87_000_000);
  aheadMs = 87_000_000;
  expect(await upkeep.run()).toBeNull();
  expect(db.prepare('SELECT count(*) AS n FROM idempotency').get()).toEqual({ n: 0 });
});

test('looks are first at the age that is set, then in pauses of a quarter of the age, from 100 ms to 10 minutes', () => {
  const looks = new Looks(LOOK_AFTER_MS);
  const hold = { requestId: 'r1', reservedAtMs: 0 };
  const pauseAt = (nowMs: number) => {
    looks.looked(hold, nowMs);
    return looks.dueAtMs(hold) - nowMs;
  };
  expect(looks.dueAtMs(hold)).toBe(LOOK_AFTER_MS);
  expect([30_000, 200_000, 86_400_000].map(pauseAt)).toEqual([30_000, 50_000, 600_000]);
  looks.leave('r1', 86_400_000);
  expect([86_400_100, 86_404_000].map(pauseAt)).toEqual([100, 1000]);
  looks.keep(new Set());
  expect(looks.dueAtMs(hold)).toBe(LOOK_AFTER_MS);
});
