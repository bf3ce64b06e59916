// D1 as the database of what all tenants share.
import type { AsyncSql, Query } from '../asyncSql.ts';
import type { Row, SqlValue } from '../sql.ts';
import type { D1Database, D1Result, D1Statement } from './cloudflare.ts';

export class D1Sql implements AsyncSql {
  readonly #db: D1Database;

  constructor(db: D1Database) {
    this.#db = db;
  }

  async all(text: string, ...values: readonly SqlValue[]): Promise<Row[]> {
    return rowsOf(await this.#bound({ text, values }).all());
  }

  look(text: string, ...values: readonly SqlValue[]): Promise<Row[]> {
    return this.all(text, ...values);
  }

  async batch(queries: readonly Query[]): Promise<Row[][]> {
    return (await this.#db.batch(queries.map((query) => this.#bound(query)))).map(rowsOf);
  }

  /**
   * As one statement and one value, which is all that D1 lets a caller send at once of many rows. They are lists, in which SQLite finds a
   * value by its place.
   */
  async insert(table: string, columns: readonly string[], rows: readonly (readonly SqlValue[])[]): Promise<void> {
    const values = columns.map((_, place) => `value ->> ${place}`).join(', ');
    await this.all(
      `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${values} FROM json_each(?) WHERE true ORDER BY key
       ON CONFLICT DO NOTHING`,
      JSON.stringify(rows),
    );
  }

  #bound({ text, values }: Query): D1Statement {
    const bytes = (value: SqlValue) => (value instanceof Uint8Array ? Uint8Array.from(value).buffer : value);
    return this.#db.prepare(text).bind(...values.map(bytes));
  }
}

/** Bytes come back as lists of numbers. */
function rowsOf({ results }: D1Result): Row[] {
  return results.map((row) => {
    const columns = Object.entries(row).map(
      ([name, value]) => [name, Array.isArray(value) ? Uint8Array.from(value) : value] as const,
    );
    return Object.fromEntries(columns);
  });
}
