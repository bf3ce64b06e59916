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
  ledgerHistories(() => openLedger({ entriesPerRun: 3 }), 200);
});

function withFolder<T>(work: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-ledger-'));
  const clean = () => rmSync(folder, { recursive: true });
  const result = work(join(folder, 'ledger.sqlite'));
  if (!(result instanceof Promise)) clean();
  else void result.then(clean, clean);
  return result;
}

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
        if (answered > 200) child.kill('SIGKILL');
      });
      child.once('close', () => resolve());
    });
    const db = openDatabase(path, 'NORMAL', MIGRATIONS);
    const entries = db.prepare('SELECT count(*) AS n, sum(input + output) AS tokens FROM entries').get();
    expect(int(entries, 'n')).toBeGreaterThanOrEqual(answered);
    const held = 'SELECT coalesce(sum(input_tokens + output_tokens), 0) AS tokens FROM holds';
    const [limit] = await new SqlLedger(db).limits('proj_writer', Date.now());
    expect(limit).toMatchObject({ settled: int(entries, 'tokens'), held: int(db.prepare(held).get(), 'tokens') });
    db.close();
  }));
