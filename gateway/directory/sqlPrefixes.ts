// The store of public prefixes in SQL, wherever the shared stores of a host stand.
import { publicPrefix } from '../../pool/wire/publicPrefixes.ts';
import type { AsyncSql } from '../asyncSql.ts';
import { int, text } from '../sql.ts';
import type { PrefixStore, StoredPrefix } from './publicPrefixes.ts';

export class SqlPrefixes implements PrefixStore {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async prefixes(): Promise<StoredPrefix[]> {
    const rows = await this.#db.all('SELECT declaration, created_ms FROM public_prefixes ORDER BY rowid');
    return rows.map((row) => ({
      prefix: publicPrefix.parse(JSON.parse(text(row, 'declaration'))),
      createdAtMs: int(row, 'created_ms'),
    }));
  }

  async addPrefix({ prefix, createdAtMs }: StoredPrefix): Promise<void> {
    await this.#db.all(
      'INSERT INTO public_prefixes (id, declaration, created_ms) VALUES (?, ?, ?)',
      ...[prefix.id, JSON.stringify(prefix), createdAtMs],
    );
  }

  async deletePrefix(id: string): Promise<boolean> {
    return (await this.#db.all('DELETE FROM public_prefixes WHERE id = ? RETURNING id', id)).length > 0;
  }
}
