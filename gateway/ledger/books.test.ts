// What the ledger remembers of a tenant is what its rows say, also after a transaction that was undone: a second ledger on the same
// database, which remembers nothing, says the same.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { MIGRATIONS } from '../migrations.ts';
import { openDatabase, type SqliteStore } from '../sqlite.ts';
import type { Admission, LedgerStore } from './port.ts';
import { SqlLedger } from './sqlLedger.ts';

const NOON = Date.UTC(2026, 6, 15, 12);
const TENANT = 'proj_1';
const HASH = { pepperVersion: 1, hash: 'ab'.repeat(32) };
const rules = (
  [
    ['tokens', 'day'],
    ['tokens', 'minute'],
    ['requests', 'minute'],
    ['concurrent', 'none'],
  ] as const
).map(([metric, window]) => ({ metric, window, limit: 1_000_000, models: null, timeZone: 'UTC' }));

const folder = mkdtempSync(join(tmpdir(), 'hearth-books-'));
let files = 0;
let db: SqliteStore;
let ledger: LedgerStore;
afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(async () => {
  db = openDatabase(join(folder, `${files++}.sqlite`), 'NORMAL', MIGRATIONS);
  ledger = new SqlLedger(db);
  await ledger.openTenant(TENANT);
  const record = { id: 'key_1', tenant: TENANT, serviceAccountId: null, name: 'k', redacted: '', createdAtMs: NOON };
  await ledger.addKey({ ...record, lastUsedAtMs: null, expiresAtMs: null, models: null }, HASH);
  await ledger.putLimits(TENANT, [{ keyId: null, set: 'test', rules }], NOON);
  return () => db.close();
});

const admit = (requestId: string, outputTokens = 20): Promise<Admission> =>
  ledger.admit({
    ...{ tenant: TENANT, hashes: [HASH], requestId, model: 'm', pool: 'p', price: null, nowMs: NOON },
    demand: { promptTokens: 10, promptExact: true, choices: 1, outputTokens, outputFlexible: false },
    ...{ deadlineMs: NOON + 1000, expiresMs: NOON + 2000 },
  });
const settle = (requestId: string) =>
  ledger.settle({
    ...{ tenant: TENANT, requestId, nowMs: NOON },
    bill: { inputTokens: 10, cachedInputTokens: 0, outputTokens: 5, outcome: 'completed' },
  });

async function remembersWhatIsStored(): Promise<void> {
  expect(await ledger.limits(TENANT, NOON)).toEqual(await new SqlLedger(db).limits(TENANT, NOON));
}

test('of commands that share a commit, one that fails leaves nothing in memory, and the others do', async () => {
  await admit('r0');
  const outcomes = await Promise.allSettled([admit('r1'), settle('r0'), admit('r1'), admit('r2')]);
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  expect(await ledger.limits(TENANT, NOON)).toMatchObject([
    { settled: 15, held: 60 },
    { settled: 15, held: 60 },
    { settled: 1, held: 2 },
    { settled: 0, held: 2 },
  ]);
  await remembersWhatIsStored();
});

test('a full disk holds nothing and settles nothing; with room again the ledger goes on', async () => {
  await admit('r0');
  const pages = db.prepare('PRAGMA page_count').get()?.page_count;
  db.exec(`PRAGMA max_page_count = ${String(pages)}`);
  const full: string[] = [];
  for (let i = 1; i <= 400 && full.length < 5; i++) await admit(`r${i}`, 0).catch(() => full.push(`r${i}`));
  expect(full).toHaveLength(5);
  await remembersWhatIsStored();
  db.exec('PRAGMA max_page_count = 1000000');
  expect(await admit(full[0] ?? '', 0)).toMatchObject({ kind: 'granted' });
  expect(await settle('r0')).toBe('booked');
  await remembersWhatIsStored();
});

test('keys, rules and models that change are other ones at the next request', async () => {
  await admit('r0');
  await ledger.putLimits(TENANT, [{ keyId: 'key_1', set: 'own', rules: [{ ...rules[0]!, limit: 35 }] }], NOON);
  expect(await admit('r1')).toMatchObject({ kind: 'held', limit: { keyId: 'key_1', limit: 35, held: 30 } });
  await ledger.changeKey(TENANT, 'key_1', { models: ['other'] });
  expect(await admit('r1')).toEqual({ kind: 'model_not_allowed' });
  await ledger.changeKey(TENANT, 'key_1', { models: null, expiresAtMs: NOON });
  expect(await admit('r1')).toEqual({ kind: 'expired_key' });
  await ledger.changeKey(TENANT, 'key_1', { expiresAtMs: null });
  await ledger.allowModels(TENANT, ['other']);
  expect(await admit('r1')).toEqual({ kind: 'model_not_allowed' });
  await ledger.allowModels(TENANT, null);
  await ledger.deleteKey(TENANT, 'key_1');
  expect(await admit('r1')).toEqual({ kind: 'unknown_key' });
  expect(await settle('r0')).toBe('booked');
  await remembersWhatIsStored();
});

test('a hold past its expiry runs no more, and holds its tokens until it is settled', async () => {
  await admit('r0');
  expect(await ledger.expire(NOON + 2000)).toBe(1);
  expect(await ledger.limits(TENANT, NOON)).toMatchObject([{ held: 30 }, { held: 30 }, { held: 1 }, { held: 0 }]);
  await settle('r0');
  expect(await ledger.limits(TENANT, NOON)).toMatchObject([{ settled: 15, held: 0 }, {}, {}, { settled: 0, held: 0 }]);
  await remembersWhatIsStored();
});
