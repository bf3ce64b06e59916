// The log while a thread carries it: short, whole, cut where secrets were deleted, and the writer's own part of the work is small.
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../test/support/eventually.ts';
import { systemClock } from './clock.ts';
import { keepLogShort, type ShortLogOptions } from './shortLog.ts';
import { int } from './sql.ts';
import { openDatabase, type SqliteStore } from './sqlite.ts';

const PAGES = 400;
const PAGE_BYTES = 4096;

let folder: string;
let path: string;
let store: SqliteStore;
let stop: AbortController;
const said: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  path = join(folder, 'x.sqlite');
  store = openDatabase(path, 'NORMAL', ['CREATE TABLE rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT']);
  stop = new AbortController();
  said.length = 0;
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const keeping = (more: Partial<ShortLogOptions> = {}): Promise<void> => {
  const note = (event: string) => void said.push(event);
  const clock = { ...systemClock, sleep: (_: number, signal?: AbortSignal) => systemClock.sleep(5, signal) };
  const log = { info: note, warn: note, error: note };
  return keepLogShort(store, { clock, log, signal: stop.signal, pages: PAGES, ...more });
};
const logBytes = () => (existsSync(`${path}-wal`) ? statSync(`${path}-wal`).size : 0);
const count = (db: SqliteStore) => int(db.prepare('SELECT count(*) AS rows FROM rows').get(), 'rows');

/** Some twenty pages of log each. */
async function write(transactions: number): Promise<void> {
  const insert = store.prepare('INSERT INTO rows (body) VALUES (randomblob(4000))');
  for (let i = 0; i < transactions; i++) {
    store.transaction(() => {
      for (let row = 0; row < 20; row++) insert.run();
    });
    await sleep(1);
  }
}

test('a thread carries the log while it is written: it stays short, and the writer carries little', async () => {
  const own: number[] = [];
  const carryLog = store.carryLog.bind(store);
  store.carryLog = () => {
    own.push(store.uncarriedPages);
    carryLog();
  };
  const kept = keeping();
  await write(1000);
  stop.abort();
  await kept;
  expect(own.length).toBeGreaterThanOrEqual(5);
  expect(Math.max(...own)).toBeLessThan(PAGES);
  // Of more than 80 MB that went through it.
  expect(logBytes()).toBeLessThan(8 * PAGES * PAGE_BYTES);
  expect(said).toEqual([]);
  const file = new DatabaseSync(path);
  expect(file.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
  file.close();
  expect(count(store)).toBe(20_000);
  store.close();
  // Nobody else has it open: so it was carried whole, and taken away.
  expect(existsSync(`${path}-wal`)).toBe(false);
  const again = openDatabase(path, 'NORMAL', ['']);
  expect(count(again)).toBe(20_000);
  again.close();
}, 60_000);

test('a log that is to be cut and is being read is cut later, and nobody waits for it', async () => {
  await write(1);
  const reader = new DatabaseSync(path);
  reader.exec('BEGIN');
  reader.prepare('SELECT count(*) FROM rows').get();
  await write(1);
  const began = performance.now();
  store.cutLog();
  expect(performance.now() - began).toBeLessThan(1000);
  expect(store.isToBeCut).toBe(true);
  const kept = keeping();
  await sleep(50);
  expect(logBytes()).toBeGreaterThan(0);
  await write(1);
  reader.exec('COMMIT');
  reader.close();
  await eventually('it is cut', async () => logBytes() === 0);
  expect(store.isToBeCut).toBe(false);
  stop.abort();
  await kept;
  expect(count(store)).toBe(60);
  store.close();
});

test('a thread that can not work is told of, another is begun, and the store works on', async () => {
  Object.defineProperty(store, 'path', { value: join(folder, 'none', 'x.sqlite') });
  const kept = keeping();
  await write(60);
  await eventually('it is told of twice', async () => said.length >= 2);
  expect(new Set(said)).toEqual(new Set(['checkpoint_failed']));
  await write(200);
  // Carried by the writer from four times its length on.
  expect(logBytes()).toBeLessThan(6 * PAGES * PAGE_BYTES);
  stop.abort();
  await kept;
  expect(count(store)).toBe(5200);
  store.close();
});
