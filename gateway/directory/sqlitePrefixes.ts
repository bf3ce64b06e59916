// The store of public prefixes on node:sqlite.
import { publicPrefix } from '../../pool/wire/publicPrefixes.ts';
import { int, type Sql, text } from '../sql.ts';
import type { PrefixStore, StoredPrefix } from './publicPrefixes.ts';

export class SqlitePrefixes implements PrefixStore {
  readonly #db: Sql;

  constructor(db: Sql) {
    this.#db = db;
  }

  async prefixes(): Promise<StoredPrefix[]> {
    const rows = this.#db.prepare('SELECT declaration, created_ms FROM public_prefixes ORDER BY rowid').all();
    return rows.map((row) => ({
      prefix: publicPrefix.parse(JSON.parse(text(row, 'declaration'))),
      createdAtMs: int(row, 'created_ms'),
    }));
  }

  async addPrefix({ prefix, createdAtMs }: StoredPrefix): Promise<void> {
    this.#db
      .prepare('INSERT INTO public_prefixes (id, declaration, created_ms) VALUES (?, ?, ?)')
      .run(prefix.id, JSON.stringify(prefix), createdAtMs);
  }

  async deletePrefix(id: string): Promise<boolean> {
    return this.#db.prepare('DELETE FROM public_prefixes WHERE id = ? RETURNING id').all(id).length > 0;
  }
}
