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
  /** The same of a query that changes nothing, and need not be answered before what is asked after it. */
  look(text: string, ...values: readonly SqlValue[]): Promise<Row[]>;
  /** In order, all of them or none; the rows of each. */
  batch(queries: readonly Query[]): Promise<Row[][]>;
  /** New rows, in order, all of them or none. One that a UNIQUE column has already is passed over. */
  insert(table: string, columns: readonly string[], rows: readonly (readonly SqlValue[])[]): Promise<void>;
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

  /** With the commands of this turn: together they find the database's code and locks at hand, which costs a fourth. */
  look(text: string, ...values: readonly SqlValue[]): Promise<Row[]> {
    return this.#db.commit(() => this.#statement(text).all(...values));
  }

  async batch(queries: readonly Query[]): Promise<Row[][]> {
    return this.#db.transaction(() => queries.map(({ text, values }) => this.#statement(text).all(...values)));
  }

  /** Row by row: in this process a call costs less than what finds the values in a text of all rows. */
  async insert(table: string, columns: readonly string[], rows: readonly (readonly SqlValue[])[]): Promise<void> {
    const places = columns.map(() => '?').join(', ');
    const statement = this.#statement(
      `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${places}) ON CONFLICT DO NOTHING`,
    );
    this.#db.transaction(() => {
      for (const row of rows) statement.run(...row);
    });
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
