// Enrolled pools in SQL, wherever the shared stores of a host stand.
import { z } from 'zod';
import { heartbeat } from '../../pool/wire/heartbeat.ts';
import type { AsyncSql } from '../asyncSql.ts';
import { int, type Row, text, textOrNull } from '../sql.ts';
import { type Announcement, type EnrolledPool, type Enrolment, MAX_ENROLLED_POOLS, type PoolStore } from './port.ts';

const origins = z.array(z.string());

export class SqlPools implements PoolStore {
  readonly #db: AsyncSql;

  constructor(db: AsyncSql) {
    this.#db = db;
  }

  async enrol({ id, keyId, allowedOrigins, createdAtMs }: Enrolment): Promise<boolean> {
    const added = await this.#db.all(
      `INSERT INTO pools (id, key_id, allowed_origins, created_ms)
       SELECT ?1, ?2, ?3, ?4 WHERE (SELECT count(*) FROM pools) < ${MAX_ENROLLED_POOLS}
       ON CONFLICT (id) DO NOTHING RETURNING id`,
      ...[id, keyId, JSON.stringify(allowedOrigins), createdAtMs],
    );
    return added.length > 0;
  }

  async list(): Promise<EnrolledPool[]> {
    return (await this.#db.all('SELECT * FROM pools ORDER BY rowid')).map(recordOf);
  }

  async get(id: string): Promise<EnrolledPool | undefined> {
    const [row] = await this.#db.all('SELECT * FROM pools WHERE id = ?', id);
    return row && recordOf(row);
  }

  async remove(id: string): Promise<boolean> {
    return (await this.#db.all('DELETE FROM pools WHERE id = ? RETURNING id', id)).length > 0;
  }

  async announce(id: string, { signedAtMs, heardAtMs, ...told }: Announcement): Promise<boolean> {
    const changed = await this.#db.all(
      'UPDATE pools SET announced = ?1, signed_ms = ?2, heard_ms = ?3 WHERE id = ?4 AND signed_ms < ?2 RETURNING id',
      ...[JSON.stringify(told), signedAtMs, heardAtMs, id],
    );
    return changed.length > 0;
  }
}

/** What an older gateway wrote, and this one doesn't understand, was never heard. */
function recordOf(row: Row): EnrolledPool {
  const told = textOrNull(row, 'announced');
  const parsed = told === null ? null : heartbeat.safeParse(JSON.parse(told));
  return {
    id: text(row, 'id'),
    keyId: text(row, 'key_id'),
    allowedOrigins: origins.parse(JSON.parse(text(row, 'allowed_origins'))),
    createdAtMs: int(row, 'created_ms'),
    announced: parsed?.success
      ? { ...parsed.data, signedAtMs: int(row, 'signed_ms'), heardAtMs: int(row, 'heard_ms') }
      : null,
  };
}
