// The log while a thread carries it: short, whole, cut where secrets were deleted, and the writer's own part of the work is small.
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../test/support/eventually.ts';
import { type Clock, systemClock } from './clock.ts';
import type { LogFields } from './log.ts';
import { keepLogShort } from './shortLog.ts';
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
  stop.abort();
  rmSync(folder, { recursive: true });
});

const log = (level: string) => (event: string, fields?: LogFields) =>
  void said.push(`${level} ${event} ${fields?.reason}`);
/** Looks are 5 ms apart, and a minute of rest is 60 ms. */
const QUICK: Clock = {
  now: () => performance.now() * 1000,
  sleep: (ms, signal) => systemClock.sleep(ms <= 1000 ? 5 : ms, signal),
};
const keeping = (clock = QUICK): Promise<void> =>
  keepLogShort(store, {
    ...{ clock, log: { info: log('info'), warn: log('warn'), error: log('error') } },
    ...{ signal: stop.signal, pages: PAGES, fewPages: PAGES / 4 },
  });
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

/** What the store itself is left to carry, each time. */
function ownPages(): number[] {
  const own: number[] = [];
  const carryLog = store.carryLog.bind(store);
  store.carryLog = () => {
    own.push(store.uncarriedPages ?? 0);
    carryLog();
  };
  return own;
}

async function stopped(kept: Promise<void>): Promise<void> {
  stop.abort();
  const began = performance.now();
  await kept;
  expect(performance.now() - began).toBeLessThan(5000);
}

test('a thread carries the log while it is written: it stays short, and the writer carries little', async () => {
  const own = ownPages();
  const kept = keeping();
  await write(1000);
  await stopped(kept);
  expect(own.length).toBeGreaterThanOrEqual(5);
  // Of more than 20,000 pages that went through the log; on a busy machine a thread is slow.
  expect(own.reduce((sum, pages) => sum + pages, 0)).toBeLessThan(10_000);
  expect(logBytes()).toBeLessThan(10_000 * PAGE_BYTES);
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

test('when a reader ends who kept the log from beginning anew, no commit carries it, but the thread', async () => {
  const reader = new DatabaseSync(path);
  let held = false;
  const clock = {
    ...QUICK,
    sleep: async (ms: number, signal?: AbortSignal) => {
      do await QUICK.sleep(ms, signal);
      while (held && ms === 1000);
    },
  };
  const kept = keeping(clock);
  reader.exec('BEGIN');
  reader.prepare('SELECT count(*) FROM rows').get();
  await write(200);
  held = true;
  await sleep(100); // what was begun ends
  reader.exec('COMMIT');
  reader.close();
  await write(1);
  expect(store.uncarriedPages).toBeGreaterThan(8 * PAGES);
  held = false;
  await eventually('it is carried', async () => store.uncarriedPages === 0);
  await stopped(kept);
  expect(said).toEqual([]);
  store.close();
});

/** Whoever looks whether something still stands in the log. */
const inLog = (secret: string) => existsSync(`${path}-wal`) && readFileSync(`${path}-wal`).includes(secret);

function writeSecret(): void {
  store.transaction(() => store.prepare("INSERT INTO rows VALUES (0, CAST('the secret' AS BLOB))").run());
  store.transaction(() => store.exec('DELETE FROM rows WHERE id = 0'));
}

test('what was deleted stands in the log no longer: at once, or when its reader ends, and nobody waits for it', async () => {
  writeSecret();
  expect(inLog('the secret')).toBe(true);
  store.cutLog();
  expect([inLog('the secret'), store.isToBeCut]).toEqual([false, false]);
  const reader = new DatabaseSync(path);
  reader.exec('BEGIN');
  reader.prepare('SELECT count(*) FROM rows').get();
  writeSecret();
  const began = performance.now();
  store.cutLog();
  expect(performance.now() - began).toBeLessThan(1000);
  expect(store.isToBeCut).toBe(true);
  const kept = keeping();
  await write(60);
  expect(inLog('the secret')).toBe(true);
  reader.exec('COMMIT');
  reader.close();
  await eventually('it is cut', async () => !inLog('the secret'));
  expect(store.isToBeCut).toBe(false);
  await stopped(kept);
  store.close();
});

test('what a process that died was to cut is cut by the next', async () => {
  writeSecret();
  const dead = store;
  store = openDatabase(path, 'NORMAL', ['']);
  const kept = keeping();
  await eventually('it is cut', async () => !inLog('the secret'));
  await stopped(kept);
  store.close();
  dead.close();
});

test('while the thread can not work commits carry, and what is to be cut is', async () => {
  Object.defineProperty(store, 'path', { value: join(folder, 'none', 'x.sqlite') });
  const kept = keeping();
  await eventually('it is told of twice', async () => {
    await write(10);
    return said.length >= 2;
  });
  expect(new Set(said)).toEqual(new Set(['error checkpoint_failed the thread failed']));
  await write(1000);
  expect(logBytes()).toBeLessThan(10_000 * PAGE_BYTES);
  writeSecret();
  store.cutLog();
  await eventually('it is cut', async () => !inLog('the secret'));
  await stopped(kept);
  expect(count(store)).toBeGreaterThanOrEqual(1010 * 20);
  store.close();
});

test('a thread that takes too long is given up, and the process ends without it', async () => {
  const kept = keeping({
    ...QUICK,
    sleep: async (ms, signal) => void (await systemClock.sleep(ms > 2000 ? 0 : 5, signal)),
  });
  await write(1000);
  expect(said.length).toBeGreaterThan(0);
  expect(new Set(said)).toEqual(new Set(['error checkpoint_failed the thread takes too long']));
  expect(logBytes()).toBeLessThan(10_000 * PAGE_BYTES);
  await stopped(kept);
  expect(count(store)).toBe(20_000);
  store.close();
});

test('a file that is elsewhere now loses nothing of its log', async () => {
  await write(1);
  renameSync(path, `${path}.moved`);
  const kept = keeping();
  await write(60);
  await eventually('it is told of', async () => said.length > 0);
  expect(said[0]).toBe('error checkpoint_failed the database file is not where it was opened');
  writeFileSync(path, '');
  await write(60);
  await stopped(kept);
  expect(new Set(said).size).toBe(1);
  renameSync(`${path}.moved`, path);
  // As after kill -9: by another connection, while this one has not closed.
  const next = openDatabase(path, 'NORMAL', ['']);
  expect(next.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
  expect(count(next)).toBe(121 * 20);
  next.close();
  store.close();
});
