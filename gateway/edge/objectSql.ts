// A Durable Object's storage as a Sql store. Its writes are confirmed before anything that follows from them leaves the object, so a
// command that was answered is durable. It has no pragmas: the schema's version stands in a table of its own.
import { int, type Row, type SchemaStore, type SqlValue, type Statement } from '../sql.ts';
import type { ObjectStorage } from './cloudflare.ts';

export class ObjectSql implements SchemaStore {
  readonly #storage: ObjectStorage;
  readonly #listeners: ((done: boolean) => void)[] = [];

  constructor(storage: ObjectStorage) {
    this.#storage = storage;
    storage.sql.exec('CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT');
  }

  /** The object keeps compiled statements by their text itself. */
  prepare(text: string): Statement {
    const all = (values: readonly SqlValue[]) =>
      this.#storage.sql
        .exec(text, ...values.map(toStorage))
        .toArray()
        .map(fromStorage);
    return {
      get: (...values) => all(values)[0],
      all: (...values) => all(values),
      run: (...values) => void all(values),
    };
  }

  exec(text: string): void {
    if (text.trim() !== '') this.#storage.sql.exec(text);
  }

  transaction<T>(work: () => T): T {
    let done = false;
    try {
      const result = this.#storage.transactionSync(work);
      done = true;
      return result;
    } finally {
      for (const listener of this.#listeners) listener(done);
    }
  }

  onEnd(listener: (done: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** At once: the storage gathers writes by itself, and holds back the answer until they are confirmed. */
  async commit<T>(work: () => T): Promise<T> {
    return this.transaction(work);
  }

  get schemaVersion(): number {
    return int(this.prepare('SELECT coalesce(max(version), 0) AS version FROM schema_version').get(), 'version');
  }

  set schemaVersion(version: number) {
    this.prepare('DELETE FROM schema_version').run();
    this.prepare('INSERT INTO schema_version VALUES (?)').run(version);
  }
}

function toStorage(value: SqlValue): null | number | string | ArrayBuffer {
  return value instanceof Uint8Array ? Uint8Array.from(value).buffer : value;
}

function fromStorage(row: Record<string, null | number | string | ArrayBuffer>): Row {
  const columns = Object.entries(row).map(
    ([name, value]) => [name, value instanceof ArrayBuffer ? new Uint8Array(value) : value] as const,
  );
  return Object.fromEntries(columns);
}
