// The few things that every store here needs of SQLite, wherever it runs: node:sqlite in this process, or a Durable Object's storage at the
// edge. Both are synchronous and serial, so the same ledger stands on either. Statements name what they changed by RETURNING, never by a
// counter that one of the hosts lacks.
import { invariant } from './invariant.ts';

export type SqlValue = null | number | string | Uint8Array;
export type Row = Record<string, SqlValue | bigint>;

export interface Statement {
  /** The first row; undefined without any. */
  get(...values: readonly SqlValue[]): Row | undefined;
  all(...values: readonly SqlValue[]): Row[];
  run(...values: readonly SqlValue[]): void;
}

export interface Sql {
  /** Once per text and store: statements are kept by whoever asks. Values are bound to `?` or `?1` in order. */
  prepare(text: string): Statement;
  /** Statements without values or results. */
  exec(text: string): void;
  /**
   * All of `work` or nothing, behind what was given to `commit` before. `work` is synchronous, so no other command can come between. Not
   * nested.
   */
  transaction<T>(work: () => T): T;
  /**
   * The same, resolving when it is durable. What is asked for at once may share one commit, in its order. A work that throws leaves nothing
   * and spoils none of the others; it may have run before in vain, so it has no effects but on this database, and on what is forgotten
   * with it (`onEnd`).
   */
  commit<T>(work: () => T): Promise<T>;
  /** Called before anything else is done, whenever a transaction has ended: done, or undone, and then what is remembered of it is not so. */
  onEnd(listener: (done: boolean) => void): void;
}

/** A database's schema as numbered steps: a step that has shipped is never edited, the next one is appended. */
export interface SchemaStore extends Sql {
  /** Steps that were applied; 0: none. */
  schemaVersion: number;
}

/** The database was written by a newer Hearth. */
export class NewerSchema extends Error {
  override readonly name = 'NewerSchema';
}

/** Applies the steps that are missing, each whole or not at all. Throws NewerSchema. */
export function migrate(store: SchemaStore, steps: readonly string[]): void {
  const version = store.schemaVersion;
  if (version > steps.length)
    throw new NewerSchema(
      `The database has schema ${version}, this Hearth knows up to ${steps.length}. Start the newer Hearth, or restore a backup.`,
    );
  for (let number = version; number < steps.length; number++)
    store.transaction(() => {
      store.exec(steps[number] ?? '');
      store.schemaVersion = number + 1;
    });
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
