// Stored keys: found by the peppered hash of a value within the tenant that the value itself names, compared in constant time, and hashed
// anew under the newest pepper when they are next used. A key has one value, and for the grace of a rotation its former one as well.
import { type KeyHash, sameHash } from '../keys/apiKey.ts';
import { int, intOrNull, type Row, type Sql, type SqlValue, type Statement, text, textOrNull } from '../sql.ts';
import type { Book, StoredKey } from './books.ts';
import type { KeyChange, KeyRecord, KeyRefusal, KeyRotation, KeyStraggler } from './port.ts';
import { modelList } from './sqlRules.ts';

/** A key's last use is noted at most this often: it is for people, not for bills. */
const LAST_USED_RESOLUTION_MS = 60_000;
/** It is written less often, since its page is that of few other keys. What is noted goes with the tenant's book. */
const LAST_USED_WRITTEN_MS = 15 * 60_000;

export interface Authenticated {
  key: KeyRecord;
  /** What tenant and key allow together; null: everything. */
  allowedModels: readonly string[] | null;
}

export class SqlKeys {
  readonly #db: Sql;
  readonly #find: Statement;
  readonly #rehash: Statement;
  readonly #used: Statement;

  constructor(db: Sql) {
    this.#db = db;
    this.#find = db.prepare(
      `SELECT keys.*, key_hashes.hash, key_hashes.pepper_version, key_hashes.good_until_ms
       FROM key_hashes JOIN keys ON keys.id = key_hashes.key_id WHERE key_hashes.hash = ? AND keys.tenant = ?`,
    );
    this.#rehash = db.prepare('UPDATE key_hashes SET pepper_version = ?, hash = ? WHERE hash = ?');
    this.#used = db.prepare('UPDATE keys SET last_used_ms = ? WHERE id = ?');
  }

  /** Inside a transaction: may write. */
  authenticate(book: Book, hashes: readonly KeyHash[], nowMs: number): Authenticated | KeyRefusal {
    const { standing } = book;
    const found = this.#match(book, hashes);
    if (!standing || !found) return 'unknown_key';
    if (standing.archived) return 'archived';
    const { key } = found;
    if (nowMs >= Math.min(key.expiresAtMs ?? Number.POSITIVE_INFINITY, found.goodUntilMs ?? Number.POSITIVE_INFINITY))
      return 'expired_key';
    const newest = hashes[0];
    if (newest && found.pepperVersion < newest.pepperVersion) {
      this.#rehash.run(newest.pepperVersion, newest.hash, found.hash);
      book.keys.delete(found.hash);
    }
    if (nowMs - (key.lastUsedAtMs ?? 0) >= LAST_USED_RESOLUTION_MS) found.key = { ...key, lastUsedAtMs: nowMs };
    if (nowMs - (found.storedUseMs ?? 0) >= LAST_USED_WRITTEN_MS) {
      this.#used.run(nowMs, key.id);
      found.storedUseMs = nowMs;
    }
    return { key, allowedModels: both(standing.models, key.models) };
  }

  add(record: KeyRecord, hash: KeyHash): void {
    const { id, tenant, serviceAccountId, name, redacted, createdAtMs, lastUsedAtMs, expiresAtMs, models } = record;
    this.#db.transaction(() => {
      this.#db
        .prepare(
          `INSERT INTO keys (id, tenant, service_account, name, redacted, created_ms, last_used_ms, expires_ms, models)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(id, tenant, serviceAccountId, name, redacted, createdAtMs, lastUsedAtMs, expiresAtMs, jsonOrNull(models));
      this.#addHash(id, hash);
    });
  }

  /** `book`: the tenant's, if there is one. */
  list(tenant: string, book: Book | undefined): KeyRecord[] {
    const noted = notedUses(book);
    return this.#db
      .prepare('SELECT * FROM keys WHERE tenant = ? ORDER BY created_ms, id')
      .all(tenant)
      .map(keyOf)
      .map((key) => ({ ...key, lastUsedAtMs: noted.get(key.id) ?? key.lastUsedAtMs }));
  }

  change(tenant: string, keyId: string, { name, expiresAtMs, models }: KeyChange): boolean {
    const sets: [string, SqlValue][] = [];
    if (name !== undefined) sets.push(['name', name]);
    if (expiresAtMs !== undefined) sets.push(['expires_ms', expiresAtMs]);
    if (models !== undefined) sets.push(['models', jsonOrNull(models)]);
    const columns = ['id = id', ...sets.map(([column]) => `${column} = ?`)].join(', ');
    const values = sets.map(([, value]) => value);
    return this.#db
      .prepare(`UPDATE keys SET ${columns} WHERE tenant = ? AND id = ? RETURNING id`)
      .all(...values, tenant, keyId)
      .some(() => true);
  }

  rotate({ tenant, keyId, hash, redacted, oldGoodUntilMs }: KeyRotation): boolean {
    return this.#db.transaction(() => {
      const found = this.#db
        .prepare('UPDATE keys SET redacted = ? WHERE tenant = ? AND id = ? RETURNING id')
        .all(redacted, tenant, keyId);
      if (found.length === 0) return false;
      // The value of before last had its grace already.
      this.#db.prepare('DELETE FROM key_hashes WHERE key_id = ? AND good_until_ms IS NOT NULL').run(keyId);
      this.#db.prepare('UPDATE key_hashes SET good_until_ms = ? WHERE key_id = ?').run(oldGoodUntilMs, keyId);
      this.#addHash(keyId, hash);
      return true;
    });
  }

  /** Inside a transaction. */
  delete(tenant: string, keyId: string): boolean {
    const owned = this.#db.prepare('SELECT 1 AS one FROM keys WHERE tenant = ? AND id = ?').get(tenant, keyId);
    if (!owned) return false;
    this.#db.prepare('DELETE FROM key_hashes WHERE key_id = ?').run(keyId);
    this.#db.prepare('DELETE FROM keys WHERE id = ?').run(keyId);
    return true;
  }

  stragglers(tenant: string, newestPepperVersion: number, book: Book | undefined): KeyStraggler[] {
    const noted = notedUses(book);
    return this.#db
      .prepare(
        `SELECT keys.id, keys.last_used_ms, min(key_hashes.pepper_version) AS pepper_version
         FROM key_hashes JOIN keys ON keys.id = key_hashes.key_id
         WHERE keys.tenant = ? AND key_hashes.pepper_version < ? GROUP BY keys.id ORDER BY pepper_version, keys.id`,
      )
      .all(tenant, newestPepperVersion)
      .map((row) => ({
        keyId: text(row, 'id'),
        pepperVersion: int(row, 'pepper_version'),
        lastUsedAtMs: noted.get(text(row, 'id')) ?? intOrNull(row, 'last_used_ms'),
      }));
  }

  #addHash(keyId: string, { hash, pepperVersion }: KeyHash): void {
    this.#db
      .prepare('INSERT INTO key_hashes (hash, key_id, pepper_version, good_until_ms) VALUES (?, ?, ?, NULL)')
      .run(hash, keyId, pepperVersion);
  }

  #match(book: Book, hashes: readonly KeyHash[]): StoredKey | undefined {
    for (const { hash } of hashes) {
      const found = book.keys.get(hash) ?? this.#stored(book, hash);
      if (found && sameHash(found.hash, hash)) return found;
    }
    return undefined;
  }

  #stored(book: Book, hash: string): StoredKey | undefined {
    const row = this.#find.get(hash, book.tenant);
    if (!row) return undefined;
    const stored = {
      ...{ key: keyOf(row), hash: text(row, 'hash'), storedUseMs: intOrNull(row, 'last_used_ms') },
      ...{ pepperVersion: int(row, 'pepper_version'), goodUntilMs: intOrNull(row, 'good_until_ms') },
    };
    book.keys.set(hash, stored);
    book.grown = true;
    return stored;
  }
}

/** By key, of whichever of its values was used last. */
function notedUses(book: Book | undefined): Map<string, number> {
  const noted = new Map<string, number>();
  for (const { key } of book?.keys.values() ?? [])
    if (key.lastUsedAtMs !== null) noted.set(key.id, Math.max(key.lastUsedAtMs, noted.get(key.id) ?? 0));
  return noted;
}

/** What two lists allow together; null allows everything. */
function both(a: readonly string[] | null, b: readonly string[] | null): readonly string[] | null {
  if (a === null || b === null) return a ?? b;
  return a.filter((model) => b.includes(model));
}

function jsonOrNull(models: readonly string[] | null): string | null {
  return models && JSON.stringify(models);
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
    models: modelList(textOrNull(row, 'models')),
  };
}
