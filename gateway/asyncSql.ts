// What the stores that all tenants share need of SQLite: the directory, the public prefixes, the usage table. Asynchronous, because at the
// edge they stand in D1, across a network; on Node it is this process' own database. One implementation of each store serves both.
import type { Row, Sql, SqlValue, Statement } from './sql.ts';

export interface Query {
  text: string;
  values: readonly SqlValue[];
}

export interface AsyncSql {
  /** Values are bound to `?` or `?1` in order. */
  all(text: string, ...values: readonly SqlValue[]): Promise<Row[]>;
  /** In order, all of them or none; the rows of each. */
  batch(queries: readonly Query[]): Promise<Row[][]>;
}

/** Texts come from a closed set; one past the bound is merely not kept. */
const MAX_KEPT_STATEMENTS = 256;

/** On a database of this process. */
export class LocalAsyncSql implements AsyncSql {
  readonly #db: Sql;
  readonly #statements = new Map<string, Statement>();

  constructor(db: Sql) {
    this.#db = db;
  }

  async all(text: string, ...values: readonly SqlValue[]): Promise<Row[]> {
    return this.#statement(text).all(...values);
  }

  async batch(queries: readonly Query[]): Promise<Row[][]> {
    return this.#db.transaction(() => queries.map(({ text, values }) => this.#statement(text).all(...values)));
  }

  #statement(text: string): Statement {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#db.prepare(text);
      if (this.#statements.size < MAX_KEPT_STATEMENTS) this.#statements.set(text, statement);
    }
    return statement;
  }
}
