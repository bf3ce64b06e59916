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

test('what is asked for at once is one commit, in its order; a work that throws leaves nothing and spoils none of the others', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', ['CREATE TABLE entries (text TEXT NOT NULL) STRICT']);
  const insert = db.prepare('INSERT INTO entries VALUES (?) RETURNING (SELECT count(*) FROM entries) AS rows');
  const add = (text: string) => db.commit(() => int(insert.get(text), 'rows'));
  const texts = () =>
    db
      .prepare('SELECT text FROM entries ORDER BY rowid')
      .all()
      .map(({ text }) => text);
  const reader = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', ['']);
  const version = () => int(reader.prepare('PRAGMA data_version').get(), 'data_version');
  const before = version();
  const group = Promise.all(Array.from({ length: 100 }, (_, i) => add(String(i))));
  expect(texts()).toEqual([]);
  expect(await group).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  expect(version()).toBe(before + 1);

  const broken = db.commit(() => {
    insert.run('never');
    throw new Error('its own bug');
  });
  const settled = await Promise.allSettled([add('a'), broken, add('b')]);
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(texts().slice(100)).toEqual(['a', 'b']);

  const last = add('last');
  db.close();
  expect(await last).toBe(103);
  expect(int(reader.prepare('SELECT count(*) AS rows FROM entries').get(), 'rows')).toBe(103);
  reader.close();
  rmSync(folder, { recursive: true });
});
