// A transaction on a disk that fills up: the cause is what is thrown and logged, nothing of it is kept, and the next one works.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { errorFields } from './log.ts';
import { int } from './sql.ts';
import { openDatabase } from './sqlite.ts';

test('a full disk is told as such, and keeps nothing of the transaction', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', ['CREATE TABLE entries (text TEXT NOT NULL) STRICT']);
  db.exec('PRAGMA max_page_count = 40');
  const insert = db.prepare('INSERT INTO entries VALUES (?)');
  const rows = () => int(db.prepare('SELECT count(*) AS rows FROM entries').get(), 'rows');
  db.transaction(() => insert.run('kept'));
  let thrown: unknown;
  try {
    db.transaction(() => {
      for (let i = 0; i < 1000; i++) insert.run('x'.repeat(1000));
    });
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({ errcode: 13 });
  expect(errorFields(thrown)).toMatchObject({ error: 'Error', reason: 'database or disk is full' });
  expect(db.inTransaction).toBe(false);
  expect(rows()).toBe(1);
  db.transaction(() => insert.run('kept too'));
  expect(rows()).toBe(2);
  db.close();
  rmSync(folder, { recursive: true });
});

test('a transaction that SQLite ended by itself throws its cause', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', []);
  const work = () => {
    db.exec('ROLLBACK');
    throw new Error('the cause');
  };
  expect(() => db.transaction(work)).toThrow('the cause');
  db.close();
  rmSync(folder, { recursive: true });
});
