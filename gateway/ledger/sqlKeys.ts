// Stored keys: found by their peppered hash within the tenant that the key itself names, compared in constant time, and hashed anew
// under the newest pepper when they are next used.
import { type KeyHash, sameHash } from '../keys/apiKey.ts';
import { int, intOrNull, type Row, type Sql, type Statement, text, textOrNull } from '../sql.ts';
import type { KeyPresented, KeyRecord, KeyRefusal } from './port.ts';

/** A key's last use is written at most this often: it is for people, not for bills. */
const LAST_USED_RESOLUTION_MS = 60_000;

export class SqlKeys {
  readonly #db: Sql;
  readonly #find: Statement;
  readonly #tenant: Statement;

  constructor(db: Sql) {
    this.#db = db;
    this.#find = db.prepare('SELECT * FROM keys WHERE tenant = ? AND hash = ?');
    this.#tenant = db.prepare('SELECT archived FROM tenants WHERE id = ?');
  }

  /** Inside a transaction: may write. */
  authenticate({ tenant, hashes }: KeyPresented, nowMs: number): KeyRecord | KeyRefusal {
    const tenantRow = this.#tenant.get(tenant);
    const row = this.#match(tenant, hashes);
    if (!tenantRow || !row) return 'unknown_key';
    if (int(tenantRow, 'archived') !== 0) return 'archived';
    const key = keyOf(row);
    if (key.expiresAtMs !== null && nowMs >= key.expiresAtMs) return 'expired_key';
    const newest = hashes[0];
    if (newest && int(row, 'pepper_version') < newest.pepperVersion)
      this.#db
        .prepare('UPDATE keys SET pepper_version = ?, hash = ? WHERE id = ?')
        .run(newest.pepperVersion, newest.hash, key.id);
    if (nowMs - (key.lastUsedAtMs ?? 0) >= LAST_USED_RESOLUTION_MS)
      this.#db.prepare('UPDATE keys SET last_used_ms = ? WHERE id = ?').run(nowMs, key.id);
    return key;
  }

  add(record: KeyRecord, hash: KeyHash): void {
    this.#db
      .prepare(
        `INSERT INTO keys (id, tenant, service_account, name, redacted, pepper_version, hash, created_ms, last_used_ms, expires_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        record.id,
        record.tenant,
        record.serviceAccountId,
        record.name,
        record.redacted,
        hash.pepperVersion,
        hash.hash,
        record.createdAtMs,
        record.lastUsedAtMs,
        record.expiresAtMs,
      );
  }

  list(tenant: string): KeyRecord[] {
    return this.#db.prepare('SELECT * FROM keys WHERE tenant = ? ORDER BY created_ms, id').all(tenant).map(keyOf);
  }

  delete(tenant: string, keyId: string): boolean {
    return this.#db.prepare('DELETE FROM keys WHERE tenant = ? AND id = ? RETURNING id').all(tenant, keyId).length > 0;
  }

  #match(tenant: string, hashes: readonly KeyHash[]): Row | undefined {
    for (const { hash } of hashes) {
      const row = this.#find.get(tenant, hash);
      if (row && sameHash(text(row, 'hash'), hash)) return row;
    }
    return undefined;
  }
}

function keyOf(row: Row): KeyRecord {
  return {
    id: text(row, 'id'),
    tenant: text(row, 'tenant'),
    serviceAccountId: textOrNull(row, 'service_account'),
    name: text(row, 'name'),
    redacted: text(row, 'redacted'),
    createdAtMs: int(row, 'created_ms'),
    lastUsedAtMs: intOrNull(row, 'last_used_ms'),
    expiresAtMs: intOrNull(row, 'expires_ms'),
  };
}
