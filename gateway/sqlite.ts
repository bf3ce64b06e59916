// node:sqlite with the few things that every store here needs: durable settings, transactions, checked columns, and numbered
// migrations that run by themselves. Only the Node host imports this.
import { join } from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { ConfigError } from './config.ts';
import { invariant } from './invariant.ts';

/** NORMAL survives kill -9 of this process; FULL also survives power loss, at the price of one sync per transaction. */
export type Synchronous = 'NORMAL' | 'FULL';

/** How long a start waits for an earlier gateway on the same folder to end. */
const LOCK_TIMEOUT_MS = 1000;

export type Row = Record<string, SQLOutputValue>;

/** How long a transaction waits for another process (a backup) before it fails. */
const BUSY_TIMEOUT_MS = 5000;

/** Opens or creates the database and brings it to the newest schema. Throws when it was written by a newer Hearth. */
export function openDatabase(path: string, synchronous: Synchronous, migrations: readonly string[]): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  db.exec(
    `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;`,
  );
  migrate(db, migrations);
  return db;
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

function migrate(db: DatabaseSync, migrations: readonly string[]): void {
  const version = int(db.prepare('PRAGMA user_version').get(), 'user_version');
  if (version > migrations.length)
    throw new ConfigError(
      `The database has schema ${version}, this Hearth knows up to ${migrations.length}. Start the newer Hearth, or restore a backup.`,
    );
  for (let number = version; number < migrations.length; number++)
    transaction(db, () => {
      db.exec(migrations[number] ?? '');
      db.exec(`PRAGMA user_version = ${number + 1}`);
    });
}

/** All of `work` or nothing. `work` is synchronous, so no other command can come between. */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    // A full or failing disk ends the transaction by itself; a second end would hide the cause.
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

export function int(row: Row | undefined, column: string): number {
  const value = row?.[column];
  invariant(typeof value === 'number' && Number.isSafeInteger(value), 'column is not an integer', { column });
  return value;
}

export function intOrNull(row: Row, column: string): number | null {
  return row[column] === null ? null : int(row, column);
}

export function number(row: Row, column: string): number {
  const value = row[column];
  invariant(typeof value === 'number', 'column is not a number', { column });
  return value;
}

export function bytesOrNull(row: Row, column: string): Uint8Array | null {
  const value = row[column];
  invariant(value === null || value instanceof Uint8Array, 'column is not bytes', { column });
  return value;
}

export function text(row: Row, column: string): string {
  const value = row[column];
  invariant(typeof value === 'string', 'column is not text', { column });
  return value;
}

export function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column);
}
