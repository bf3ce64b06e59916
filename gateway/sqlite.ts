// node:sqlite as a Sql store, with durable settings, and the lock that keeps a folder for one gateway. Only the Node host imports this.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { ConfigError } from './config.ts';
import { int, migrate, NewerSchema, type Row, type SchemaStore, type Statement } from './sql.ts';

/** NORMAL survives kill -9 of this process; FULL also survives power loss, at the price of one sync per transaction. */
export type Synchronous = 'NORMAL' | 'FULL';

/** How long a start waits for an earlier gateway on the same folder to end. */
const LOCK_TIMEOUT_MS = 1000;

/** How long a transaction waits for another process (a backup) before it fails. */
const BUSY_TIMEOUT_MS = 5000;

/** Works that share one commit at most: while they run, nothing else does. */
const MAX_GROUP = 128;

interface Waiting {
  run(): void;
  done(): void;
  fail(error: unknown): void;
}

/**
 * Pages of log (64 MiB) before they are carried into the database file, for which whoever does it waits for the disk (shortLog.ts): rarely, and then
 * each page that was written often is carried once.
 */
export const LOG_PAGES = 16_384;

/** So many are carried in a moment, but for two waits until the disk has them. */
export const FEW_LOG_PAGES = 1024;

/**
 * From here on SQLite tells what its log has, and two connections may carry it: an earlier one can spoil the file where both do at one moment
 * (https://www.sqlite.org/wal.html#walresetbug).
 */
const SHARES_LOG = (process.versions.sqlite ?? '').localeCompare('3.51.3', 'en', { numeric: true }) >= 0;

/** Pages kept in memory: those that the requests of many tenants touch, which would be read again for each. */
export const CACHE_KIB = 64 * 1024;

export class SqliteStore implements SchemaStore {
  readonly #db: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #end: StatementSync;
  readonly #listeners: ((done: boolean) => void)[] = [];
  #waiting: Waiting[] = [];
  #isToBeCut = false;
  readonly #file: string | null;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#file = fileAt(db.location());
    this.#begin = db.prepare('BEGIN IMMEDIATE');
    this.#end = db.prepare('COMMIT');
  }

  prepare(text: string): Statement {
    const statement = this.#db.prepare(text);
    const names = statement.columns().map(({ name }) => name);
    statement.setReturnArrays(true);
    return {
      get: (...values) => {
        const found: unknown = statement.get(...values);
        return found === undefined ? undefined : rowOf(names, found);
      },
      all: (...values) => statement.all(...values).map((found: unknown) => rowOf(names, found)),
      run: (...values) => void statement.run(...values),
    };
  }

  exec(text: string): void {
    this.#db.exec(text);
  }

  transaction<T>(work: () => T): T {
    this.#commitWaiting();
    return this.#transaction(work);
  }

  #transaction<T>(work: () => T): T {
    this.#begin.run();
    let done = false;
    try {
      const result = work();
      this.#end.run();
      done = true;
      return result;
    } catch (error) {
      // A full or failing disk ends the transaction by itself; a second end would hide the cause.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    } finally {
      for (const listener of this.#listeners) listener(done);
    }
  }

  onEnd(listener: (done: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** Gathers what the requests of one turn of the event loop ask for: a commit costs more than a work. */
  commit<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      const run = () => {
        result = work();
      };
      this.#waiting.push({ run, done: () => resolve(result), fail: reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#commitWaiting());
    });
  }

  #commitWaiting(): void {
    for (let group = this.#waiting.splice(0, MAX_GROUP); group.length > 0; group = this.#waiting.splice(0, MAX_GROUP))
      if (!this.#commitGroup(group)) for (const one of group) this.#commitGroup([one]);
  }

  /** False when one of several failed: then none was done. */
  #commitGroup(group: readonly Waiting[]): boolean {
    try {
      this.#transaction(() => {
        for (const { run } of group) run();
      });
    } catch (error) {
      if (group.length > 1) return false;
      group[0]?.fail(error);
      return true;
    }
    for (const { done } of group) done();
    return true;
  }

  get inTransaction(): boolean {
    return this.#db.isTransaction;
  }

  get schemaVersion(): number {
    return int(this.prepare('PRAGMA user_version').get(), 'user_version');
  }

  set schemaVersion(version: number) {
    this.#db.exec(`PRAGMA user_version = ${version}`);
  }

  /** null where another file stands in its place, or none: who opened that would take the log for the other's. */
  get path(): string | null {
    const path = this.#db.location();
    return fileAt(path) === this.#file ? path : null;
  }

  /** Pages of the log that are not in the database file yet; null: this SQLite does not tell. */
  get uncarriedPages(): number | null {
    if (!SHARES_LOG) return null;
    const row = this.prepare('PRAGMA wal_checkpoint(NOOP)').get();
    return int(row, 'log') - int(row, 'checkpointed');
  }

  /** What was deleted still stands in the log. */
  get isToBeCut(): boolean {
    return this.#isToBeCut;
  }

  /**
   * Deleted content is overwritten (secure_delete), but older pages still stand in the log until it is cut: now if that takes a moment, else by a later
   * `carryLog`, as where somebody reads it, or the disk is full.
   */
  cutLog(): void {
    this.#isToBeCut = true;
    try {
      if ((this.uncarriedPages ?? 0) <= FEW_LOG_PAGES) this.carryLog();
    } catch {
      // What was deleted is; `isToBeCut` says the rest.
    }
  }

  /** What is not in the database file yet. If that is all, the log begins anew, cut if it is to be. Waits for nobody. */
  carryLog(): void {
    if (!this.#isToBeCut) return void this.#db.exec('PRAGMA wal_checkpoint(PASSIVE)');
    this.#db.exec('PRAGMA busy_timeout = 0');
    try {
      this.#isToBeCut = int(this.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get(), 'busy') !== 0;
    } finally {
      this.#db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    }
  }

  /** Commits carry a log of so many pages themselves; 0: never. */
  carryAtCommit(pages: number): void {
    this.#db.exec(`PRAGMA wal_autocheckpoint = ${pages}`);
  }

  close(): void {
    this.#commitWaiting();
    this.#db.close();
  }
}

/** Which file it is, by whatever name; null: none. */
function fileAt(path: string | null): string | null {
  const stat = path === null ? undefined : statSync(path, { throwIfNoEntry: false });
  return stat ? `${stat.dev} ${stat.ino}` : null;
}

/** What node:sqlite makes of a row by itself is a dictionary, which costs about as much to make and to read as the query that found it. */
function rowOf(names: readonly string[], found: unknown): Row {
  const values = found as Row[string][];
  const row: Row = {};
  for (let i = 0; i < names.length; i++) row[names[i]!] = values[i]!;
  return row;
}

/** Opens or creates the database and brings it to the newest schema. Throws ConfigError when it was written by a newer Hearth. */
export function openDatabase(path: string, synchronous: Synchronous, steps: readonly string[]): SqliteStore {
  const db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  db.exec(
    `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;
     PRAGMA wal_autocheckpoint = ${LOG_PAGES}; PRAGMA cache_size = -${CACHE_KIB};`,
  );
  const store = new SqliteStore(db);
  try {
    migrate(store, steps);
  } catch (error) {
    db.close();
    throw error instanceof NewerSchema ? new ConfigError(error.message) : error;
  }
  return store;
}

/**
 * Takes the folder for this process, for as long as it lives: two gateways on one ledger would settle each other's holds. The lock is
 * the operating system's, so it ends with the process, however that ends. Throws ConfigError. Returns what gives it back.
 */
export function lockFolder(folder: string): () => void {
  const lock = new DatabaseSync(join(folder, 'gateway.lock'), { timeout: LOCK_TIMEOUT_MS });
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch {
    lock.close();
    throw new ConfigError(
      `Another gateway uses the folder ${folder}. Stop it, or set HEARTH_DATA_DIR to another folder.`,
    );
  }
  return () => lock.close();
}
