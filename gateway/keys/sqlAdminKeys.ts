// Admin keys in SQL.
import type { AsyncSql } from '../asyncSql.ts';
import { int, intOrNull, type Row, text } from '../sql.ts';
import { type AdminKeyRecord, type AdminKeyStore, MAX_ADMIN_KEYS } from './adminKeys.ts';
import { type KeyHash, sameHash } from './apiKey.ts';

export class SqlAdminKeys implements AdminKeyStore {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async use(hashes: readonly KeyHash[], nowMs: number): Promise<AdminKeyRecord | undefined> {
    for (const { hash } of hashes) {
      const [row] = await this.#db.all('SELECT * FROM admin_keys WHERE hash = ?', hash);
      if (!row || !sameHash(text(row, 'hash'), hash)) continue;
      const record = recordOf(row);
      if (record.expiresAtMs !== null && nowMs >= record.expiresAtMs) return undefined;
      const newest = hashes[0];
      if (newest)
        await this.#db.all(
          'UPDATE admin_keys SET hash = ?, pepper_version = ?, last_used_ms = ? WHERE id = ?',
          ...[newest.hash, newest.pepperVersion, nowMs, record.id],
        );
      return record;
    }
    return undefined;
  }

  async add(record: AdminKeyRecord, { hash, pepperVersion }: KeyHash): Promise<boolean> {
    const { id, name, redacted, createdAtMs, lastUsedAtMs, expiresAtMs } = record;
    const added = await this.#db.all(
      `INSERT INTO admin_keys (id, name, redacted, hash, pepper_version, created_ms, last_used_ms, expires_ms)
       SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM admin_keys) < ${MAX_ADMIN_KEYS} RETURNING id`,
      ...[id, name, redacted, hash, pepperVersion, createdAtMs, lastUsedAtMs, expiresAtMs],
    );
    return added.length > 0;
  }

  async list(): Promise<AdminKeyRecord[]> {
    return (await this.#db.all('SELECT * FROM admin_keys ORDER BY rowid')).map(recordOf);
  }

  async delete(id: string): Promise<boolean> {
    return (await this.#db.all('DELETE FROM admin_keys WHERE id = ? RETURNING id', id)).length > 0;
  }
}

function recordOf(row: Row): AdminKeyRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    redacted: text(row, 'redacted'),
    createdAtMs: int(row, 'created_ms'),
    lastUsedAtMs: intOrNull(row, 'last_used_ms'),
    expiresAtMs: intOrNull(row, 'expires_ms'),
  };
}
