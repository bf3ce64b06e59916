// The ledger on node:sqlite, through the suite of all ledgers; and what only a file can show: a killed writer, an older and a newer
// schema.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ledgerConformance, type OpenLedger } from '../../test/support/ledgerConformance.ts';
import { ledgerHistories } from '../../test/support/ledgerHistories.ts';
import { MIGRATIONS } from '../migrations.ts';
import { int } from '../sql.ts';
import { openDatabase } from '../sqlite.ts';
import type { AdmitCommand } from './port.ts';
import { type LedgerOptions, SqlLedger } from './sqlLedger.ts';

async function openLedger(options: LedgerOptions = {}): Promise<OpenLedger> {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-ledger-'));
  const open = () => openDatabase(join(folder, 'ledger.sqlite'), 'NORMAL', MIGRATIONS);
  let db = open();
  return {
    ledger: new SqlLedger(db, options),
    async reopen() {
      db.close();
      db = open();
      return new SqlLedger(db, options);
    },
    async close() {
      db.close();
      rmSync(folder, { recursive: true });
    },
  };
}

ledgerConformance('the SQLite ledger', openLedger);

describe('with runs of three entries', () => {
  ledgerHistories(() => openLedger({ entriesPerRun: 3, booksBytes: 1 }), 200);
});

function withFolder<T>(work: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-ledger-'));
  const clean = () => rmSync(folder, { recursive: true });
  const result = work(join(folder, 'ledger.sqlite'));
  if (!(result instanceof Promise)) clean();
  else void result.then(clean, clean);
  return result;
}

const HASH = { pepperVersion: 1, hash: 'ab'.repeat(32) };

function admission(tenant: string, requestId: string, nowMs: number): AdmitCommand {
  return {
    ...{ tenant, hashes: [{ pepperVersion: 1, hash: tenant.slice(-2).repeat(32) }], requestId, model: 'm', pool: 'p' },
    demand: { promptTokens: 10, promptExact: true, choices: 1, outputTokens: 5, outputFlexible: false },
    ...{ price: null, nowMs, deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 },
  };
}

test('a clock that was wrong is set right by tenant: who asked by it goes on from what counted, for others it never was', () =>
  withFolder(async (path) => {
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    const ledger = new SqlLedger(db, { entriesPerRun: 2 });
    const [noon, ahead] = [Date.UTC(2026, 6, 15, 12), Date.UTC(2026, 6, 15, 13)];
    for (const tenant of ['proj_01', 'proj_02', 'proj_03']) {
      await ledger.openTenant(tenant);
      const key = { id: `key_${tenant}`, tenant, serviceAccountId: null, name: 'k', redacted: '', createdAtMs: 0 };
      const hash = { pepperVersion: 1, hash: tenant.slice(-2).repeat(32) };
      await ledger.addKey({ ...key, lastUsedAtMs: null, expiresAtMs: null, models: null }, hash);
      const rules = [{ metric: 'requests', window: 'minute', limit: 2, models: null, timeZone: 'UTC' } as const];
      await ledger.putLimits(tenant, [{ keyId: null, set: 'test', rules }], noon - 7_200_000);
    }
    const request = async (tenant: string, requestId: string, nowMs: number) => {
      const { kind } = await ledger.admit(admission(tenant, requestId, nowMs));
      const bill = { inputTokens: 10, cachedInputTokens: 0, outputTokens: 5, outcome: 'completed' as const };
      if (kind === 'granted') await ledger.settle({ tenant, requestId, nowMs, bill });
      while (await ledger.tend());
      return kind;
    };
    for (const id of ['c1', 'c2']) expect(await request('proj_03', id, noon)).toBe('granted');
    // By the clock that is an hour ahead: one of the first tenant's had left when it was found out, the others count.
    expect(await request('proj_01', 'a1', ahead - 70_000)).toBe('granted');
    expect(await request('proj_01', 'a2', ahead)).toBe('granted');
    for (const id of ['b1', 'b2']) expect(await request('proj_02', id, ahead)).toBe('granted');
    expect(await request('proj_03', 'c3', noon + 1000)).toBe('rate');
    expect(await request('proj_02', 'b3', noon + 1000)).toBe('rate');
    expect(await request('proj_01', 'a3', noon + 1000)).toBe('granted');
    expect(await request('proj_01', 'a4', noon + 1000)).toBe('rate');
    for (const tenant of ['proj_02', 'proj_03'])
      expect(await request(tenant, `${tenant}-4`, noon + 62_000)).toBe('granted');
    db.close();
  }));

test('a database of the former schema keeps its sums, and new limits count what came before', () =>
  withFolder(async (path) => {
    const step = MIGRATIONS.findIndex((text) => text.includes('DROP COLUMN latest_second'));
    const old = openDatabase(path, 'NORMAL', MIGRATIONS.slice(0, step));
    const noon = Date.UTC(2026, 6, 15, 12);
    old.exec(`
      INSERT INTO tenants (id, latest_second) VALUES ('proj_1', ${noon / 1000}), ('proj_2', 5);
      INSERT INTO keys VALUES ('key_1', 'proj_1', NULL, 'k', 'sk-…', 1, NULL, NULL, NULL);
      INSERT INTO key_hashes VALUES ('${HASH.hash}', 'key_1', 1, NULL);
      INSERT INTO limits VALUES ('proj_1', '', 'test', 0, 'limit_1', 'tokens', 'lifetime', 100, NULL, 'UTC');
      INSERT INTO meters (tenant, limit_id, start_ms, end_ms, settled) VALUES ('proj_1', 'limit_1', 0, NULL, 14);
    `);
    for (const [id, tenant, atMs] of [
      ['r1', 'proj_1', noon - 90_000_000],
      ['r2', 'proj_2', noon],
      ['r3', 'proj_1', noon],
    ])
      old.exec(
        `INSERT INTO entries (request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms, booked_second)
         VALUES ('${id}', '${tenant}', 'key_1', 'm', 'p', 3, 0, 4, 'completed', ${atMs}, ${atMs}, ${Math.floor(Number(atMs) / 1000)})`,
      );
    old.close();
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    const ledger = new SqlLedger(db);
    expect(await ledger.limits('proj_1', noon)).toMatchObject([{ window: 'lifetime', settled: 14 }]);
    const rules = (['day', 'month', 'minute'] as const).map((window) => ({
      ...({ metric: 'tokens', window, limit: 100, models: null, timeZone: 'UTC' } as const),
    }));
    expect(await ledger.putLimits('proj_1', [{ keyId: null, set: 'new', rules }], noon)).toMatchObject([
      { window: 'day', settled: 7 },
      { window: 'month', settled: 14 },
      { window: 'minute', settled: 7 },
      { window: 'lifetime', settled: 14 },
    ]);
    db.close();
  }));

test('a database of a newer schema is refused with the remedy', () =>
  withFolder((path) => {
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    db.exec('PRAGMA user_version = 99');
    db.close();
    expect(() => openDatabase(path, 'NORMAL', MIGRATIONS)).toThrow(/schema 99.*Start the newer Hearth/);
  }));

test('a migration that fails leaves the database as it was', () =>
  withFolder((path) => {
    openDatabase(path, 'FULL', MIGRATIONS).close();
    const broken = [...MIGRATIONS, 'CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE projects (a INTEGER) STRICT;'];
    expect(() => openDatabase(path, 'NORMAL', broken)).toThrow(/projects already exists/);
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    expect(db.prepare(`SELECT count(*) AS n FROM sqlite_schema WHERE name = 'half'`).get()).toEqual({ n: 0 });
    db.close();
  }));

test('a database from before limits had metrics keeps its quotas, keys and use', () =>
  withFolder(async (path) => {
    const old = openDatabase(path, 'NORMAL', MIGRATIONS.slice(0, 3));
    old.exec(`
      INSERT INTO tenants VALUES ('proj_1', 0);
      INSERT INTO keys VALUES ('key_1', 'proj_1', NULL, 'k', 'sk-…', 1, '${'ab'.repeat(32)}', 5, NULL, NULL);
      INSERT INTO quotas VALUES ('quota_1', 'proj_1', 0, 'lifetime', 100, NULL, 'UTC');
      INSERT INTO meters VALUES ('proj_1', 'quota_1', 0, NULL, 7, 20);
      INSERT INTO entries VALUES (1, 'r1', 'proj_1', 'key_1', 'm', 'p', 3, 0, 4, 'completed', 10, 11);
      INSERT INTO holds VALUES ('r2', 'proj_1', 'key_1', 'm', 'p', 20, 12, 13, 14, 'held');
    `);
    old.close();
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    const ledger = new SqlLedger(db);
    const status = await ledger.keyStatus({
      tenant: 'proj_1',
      hashes: [{ pepperVersion: 1, hash: 'ab'.repeat(32) }],
      nowMs: 20,
    });
    expect(status).toMatchObject({ kind: 'known', key: { id: 'key_1', models: null }, allowedModels: null });
    expect(await ledger.limits('proj_1', 20)).toMatchObject([
      { metric: 'tokens', window: 'lifetime', set: 'token_quotas', limit: 100, settled: 7, held: 20 },
    ]);
    db.close();
  }));

test('what a database of an older schema still has in its outbox is given out, and nothing before it', () =>
  withFolder(async (path) => {
    const step = MIGRATIONS.findIndex((text) => text.includes('DROP TABLE outbox'));
    for (const left of [[], [3], [1, 2, 3]]) {
      const old = openDatabase(path, 'NORMAL', MIGRATIONS.slice(0, step));
      const entry = `'proj_1', 'key_1', 'm', 'p', 3, 0, 4, 'completed', 10, 11`;
      for (const id of [1, 2, 3])
        old.exec(
          `INSERT INTO entries (sequence, request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms)
           VALUES (${id}, 'r${id}', ${entry})`,
        );
      for (const id of left) old.exec(`INSERT INTO outbox VALUES (${id})`);
      old.close();
      const db = openDatabase(path, 'NORMAL', MIGRATIONS);
      expect((await new SqlLedger(db).outbox(10)).map(({ sequence }) => sequence)).toEqual(left);
      db.close();
      rmSync(path);
    }
  }));

test('kill -9 of a writer loses nothing that was answered, and keeps every sum', () =>
  withFolder(async (path) => {
    const script = join(import.meta.dirname, '../../test/support/ledgerWriter.ts');
    const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let answered = 0;
    await new Promise<void>((resolve) => {
      child.stdout.setEncoding('utf8').on('data', (lines: string) => {
        answered += lines.split('\n').length - 1;
        if (answered > 2000) child.kill('SIGKILL');
      });
      child.once('close', () => resolve());
    });
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    expect(db.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
    const entries = db.prepare('SELECT count(*) AS n, sum(input + output) AS tokens FROM entries').get();
    expect(int(entries, 'n')).toBeGreaterThanOrEqual(answered);
    const held = 'SELECT coalesce(sum(input_tokens + output_tokens), 0) AS tokens FROM holds';
    const [limit] = await new SqlLedger(db).limits('proj_writer', Date.now());
    expect(limit).toMatchObject({ settled: int(entries, 'tokens'), held: int(db.prepare(held).get(), 'tokens') });
    db.close();
  }));
