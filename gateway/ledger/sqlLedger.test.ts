// The ledger on node:sqlite, through the suite of all ledgers; and what only a file can show: a killed writer, an older and a newer
// schema.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ledgerConformance } from '../../test/support/ledgerConformance.ts';
import { MIGRATIONS } from '../migrations.ts';
import { int } from '../sql.ts';
import { openDatabase } from '../sqlite.ts';
import { SqlLedger } from './sqlLedger.ts';

ledgerConformance('the SQLite ledger', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-ledger-'));
  const open = () => openDatabase(join(folder, 'ledger.sqlite'), 'NORMAL', MIGRATIONS);
  let db = open();
  return {
    ledger: new SqlLedger(db),
    async reopen() {
      db.close();
      db = open();
      return new SqlLedger(db);
    },
    async close() {
      db.close();
      rmSync(folder, { recursive: true });
    },
  };
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
    const holds = int(db.prepare('SELECT coalesce(sum(tokens), 0) AS tokens FROM holds').get(), 'tokens');
    const [quota] = await new SqlLedger(db).quotas('proj_writer', Date.now());
    expect(quota).toMatchObject({ settledTokens: int(entries, 'tokens'), heldTokens: holds });
    db.close();
  }));
