// What is kept under idempotency keys is bounded, expires, and dies with its tenant; its counts are those of the rows.
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, expect, test } from 'vitest';
import { MIGRATIONS } from '../migrations.ts';
import { int, migrate } from '../sql.ts';
import { SqliteStore } from '../sqlite.ts';
import type { IdempotencyBounds } from './idempotency.ts';
import { SqlLedger } from './sqlLedger.ts';

const NOON = Date.UTC(2026, 6, 15, 12);
const TENANT = 'proj_000000000000000000000004';
const CALLER = { tenant: TENANT, hashes: [{ pepperVersion: 1, hash: 'c0'.repeat(32) }] };

let db: SqliteStore;
let ledger: SqlLedger;

beforeEach(() => open({ records: 3, answerBytes: 20 }));

async function open(bounds: IdempotencyBounds): Promise<void> {
  db = new SqliteStore(new DatabaseSync(':memory:'));
  migrate(db, MIGRATIONS);
  ledger = new SqlLedger(db, { idempotency: bounds });
  await ledger.openTenant(TENANT);
  const times = { createdAtMs: NOON, lastUsedAtMs: null, expiresAtMs: null };
  const names = { id: 'key_1', tenant: TENANT, serviceAccountId: null, name: 'k', redacted: '', models: null };
  const [hash] = CALLER.hashes;
  if (hash) await ledger.addKey({ ...names, ...times }, hash);
}

const presented = (key: string) => ({ keyHash: key, bodyDigest: 'body' });

async function admit(key: string, nowMs: number, requestId = `r-${key}`): Promise<string> {
  const admission = await ledger.admit({
    ...{ ...CALLER, requestId, model: 'tiny', pool: 'pool-a', price: null, nowMs },
    demand: { promptTokens: 3, promptExact: true, choices: 1, outputTokens: 4, outputFlexible: false },
    ...{ deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 },
    idempotency: { ...presented(key), seed: 1, keptUntilMs: nowMs + 10_000 },
  });
  return admission.kind;
}

async function finish(key: string, bytes: number, nowMs: number): Promise<void> {
  const bill = { inputTokens: 3, cachedInputTokens: 0, outputTokens: 4, outcome: 'completed' as const, positions: [4] };
  const answer = { keyHash: key, sealed: new Uint8Array(bytes) };
  await ledger.settle({ tenant: TENANT, requestId: `r-${key}`, bill, nowMs, answer });
}

async function standing(key: string, nowMs = NOON + 100): Promise<string> {
  return (await ledger.recall({ ...CALLER, ...presented(key), model: 'tiny', nowMs })).kind;
}

function counted(): [records: number, bytes: number] {
  const row = db.prepare('SELECT kept_records, kept_answer_bytes FROM tenants').get();
  const rows = db.prepare('SELECT count(*) AS n, coalesce(sum(length(answer)), 0) AS bytes FROM idempotency').get();
  expect([int(row, 'kept_records'), int(row, 'kept_answer_bytes')]).toEqual([int(rows, 'n'), int(rows, 'bytes')]);
  return [int(rows, 'n'), int(rows, 'bytes')];
}

test('an answer that comes after its receipt was booked is kept, but not once the next attempt has begun', async () => {
  const bill = { inputTokens: 3, cachedInputTokens: 0, outputTokens: 4, outcome: 'completed' as const, positions: [4] };
  for (const key of ['a', 'b']) {
    await admit(key, NOON);
    await ledger.settle({ tenant: TENANT, requestId: `r-${key}`, bill, nowMs: NOON });
    expect(await standing(key)).toBe('lost');
  }
  await admit('b', NOON, 'r-b.2');
  for (const key of ['a', 'b']) await finish(key, 5, NOON);
  expect([await standing('a'), await standing('b')]).toEqual(['answered', 'in_progress']);
  expect(counted()).toEqual([2, 5]);
});

test('past their bytes the oldest answers go, and are computed again', async () => {
  for (const [at, key] of ['a', 'b', 'c'].entries()) {
    await admit(key, NOON + at);
    await finish(key, 9, NOON + at);
  }
  expect([await standing('a'), await standing('b'), await standing('c')]).toEqual(['lost', 'answered', 'answered']);
  expect(counted()).toEqual([3, 18]);
});

test('an answer larger than all that may be kept is not', async () => {
  await admit('a', NOON);
  await finish('a', 21, NOON);
  expect([await standing('a'), counted()]).toEqual(['lost', [1, 0]]);
});

test('past their number the oldest records go, but none whose request runs', async () => {
  for (const [at, key] of ['a', 'b', 'c', 'd', 'e'].entries()) {
    await admit(key, NOON + at);
    if (key !== 'a') await finish(key, 5, NOON + at);
  }
  const standings = [
    await standing('a'),
    await standing('b'),
    await standing('c'),
    await standing('d'),
    await standing('e'),
  ];
  expect(standings).toEqual(['in_progress', 'absent', 'absent', 'answered', 'answered']);
  expect(counted()).toEqual([3, 10]);
});

test('what has expired is taken away by the ledger’s round, but not what runs', async () => {
  await admit('a', NOON);
  await admit('b', NOON);
  await finish('b', 5, NOON);
  await ledger.expire(NOON + 9999);
  expect(counted()).toEqual([2, 5]);
  expect(await standing('b', NOON + 10_000)).toBe('absent');
  await ledger.expire(NOON + 10_000);
  expect(counted()).toEqual([1, 0]);
  expect(await standing('a', NOON + 20_000)).toBe('in_progress');
  await finish('a', 5, NOON + 20_000);
  expect(await standing('a', NOON + 20_000)).toBe('absent');
});

test('an archived tenant has no answers left; what of it runs is billed all the same', async () => {
  await admit('a', NOON);
  await finish('a', 5, NOON);
  await admit('b', NOON);
  await ledger.archiveTenant(TENANT);
  expect([await standing('a'), counted()]).toEqual(['archived', [2, 0]]);
  await finish('b', 5, NOON);
  expect(await ledger.outbox(10)).toMatchObject([{ outputTokens: 4 }, { outputTokens: 4 }]);
});

test('an answer that does not open any more is forgotten, and its request runs again for nothing', async () => {
  await admit('a', NOON);
  await finish('a', 5, NOON);
  const recalled = await ledger.recall({ ...CALLER, ...presented('a'), model: 'tiny', nowMs: NOON, unreadable: true });
  expect(recalled).toEqual({ kind: 'lost', next: 'r-a.2' });
  expect(counted()).toEqual([1, 0]);
  expect(await admit('a', NOON, 'r-a.2')).toBe('granted');
  expect(await ledger.holds({ limit: 10 })).toMatchObject([{ requestId: 'r-a.2', inputTokens: 0, outputTokens: 0 }]);
});

test('a model that the caller may not use is refused before its answer is given', async () => {
  await admit('a', NOON);
  await finish('a', 5, NOON);
  await ledger.allowModels(TENANT, ['other']);
  expect(await standing('a')).toBe('model_not_allowed');
});
