// The rules themselves: kept in sets, each replaced whole, each rule with an id that stays the same while it counts the same, so that a
// changed limit keeps its meter.
import { createHash } from 'node:crypto';
import { invariant } from '../invariant.ts';
import { int, type Row, type Sql, type Statement, text, textOrNull } from '../sql.ts';
import type { Book } from './books.ts';
import { type KeptRule, LIMIT_WINDOWS, type LimitRule, METRICS } from './limits.ts';
import type { LimitSet } from './port.ts';

export interface StoredRule extends KeptRule {
  id: string;
}

function idOf({ keyId, set }: LimitSet, { metric, window, models, timeZone }: LimitRule): string {
  const counted = [keyId, set, metric, window, models && [...models].sort(), timeZone];
  return `limit_${createHash('sha256').update(JSON.stringify(counted)).digest('hex').slice(0, 24)}`;
}

/** The columns of `limits`. */
function ruleOf(row: Row): StoredRule {
  const keyId = text(row, 'key_id');
  return {
    id: text(row, 'id'),
    set: text(row, 'set_name'),
    keyId: keyId === '' ? null : keyId,
    metric: oneOf(METRICS, text(row, 'metric')),
    window: oneOf(LIMIT_WINDOWS, text(row, 'window')),
    limit: int(row, 'amount'),
    models: modelList(textOrNull(row, 'models')),
    timeZone: text(row, 'time_zone'),
  };
}

export class SqlRules {
  readonly #db: Sql;
  readonly #selectOf: Statement;
  readonly #selectAll: Statement;

  constructor(db: Sql) {
    this.#db = db;
    const order = 'ORDER BY key_id, set_name, position';
    this.#selectOf = db.prepare(`SELECT * FROM limits WHERE tenant = ? AND key_id IN ('', ?) ${order}`);
    this.#selectAll = db.prepare(`SELECT * FROM limits WHERE tenant = ? ${order}`);
  }

  /** Those of a tenant, and of one of its keys. */
  of(book: Book, keyId: string): readonly StoredRule[] {
    const kept = book.rules.get(keyId);
    if (kept) return kept;
    const rules = this.stored(book.tenant, keyId);
    book.rules.set(keyId, rules);
    book.grown = true;
    return rules;
  }

  /** Those of a tenant and of all its keys. */
  all(tenant: string): StoredRule[] {
    return this.#selectAll.all(tenant).map(ruleOf);
  }

  /** The same, as they are stored. */
  stored(tenant: string, keyId: string): StoredRule[] {
    return this.#selectOf.all(tenant, keyId).map(ruleOf);
  }

  /** How many rules of this owner stay when these sets are replaced. */
  kept(tenant: string, keyId: string | null, replaced: readonly LimitSet[]): number {
    const names = JSON.stringify(replaced.map(({ set }) => set));
    const row = this.#db
      .prepare(
        `SELECT count(*) AS kept FROM limits
         WHERE tenant = ? AND key_id = ? AND set_name NOT IN (SELECT value FROM json_each(?))`,
      )
      .get(tenant, keyId ?? '', names);
    return int(row, 'kept');
  }

  replace(tenant: string, sets: readonly LimitSet[]): void {
    const remove = this.#db.prepare('DELETE FROM limits WHERE tenant = ? AND key_id = ? AND set_name = ?');
    const insert = this.#db.prepare(
      `INSERT INTO limits (tenant, key_id, set_name, position, id, metric, window, amount, models, time_zone)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    for (const set of sets) {
      remove.run(tenant, set.keyId ?? '', set.set);
      for (const [position, rule] of set.rules.entries()) {
        const models = rule.models && JSON.stringify(rule.models);
        const { metric, window, limit, timeZone } = rule;
        const owner = [tenant, set.keyId ?? '', set.set, position, idOf(set, rule)];
        insert.run(...owner, metric, window, limit, models, timeZone);
      }
    }
    this.#forgetOrphans(tenant);
  }

  forgetKey(tenant: string, keyId: string): void {
    this.#db.prepare('DELETE FROM limits WHERE tenant = ? AND key_id = ?').run(tenant, keyId);
    this.#forgetOrphans(tenant);
  }

  #forgetOrphans(tenant: string): void {
    this.#db
      .prepare('DELETE FROM meters WHERE tenant = ?1 AND limit_id NOT IN (SELECT id FROM limits WHERE tenant = ?1)')
      .run(tenant);
  }
}

function oneOf<T extends string>(known: readonly T[], value: string): T {
  const found = known.find((one) => one === value);
  invariant(found, 'a closed set in the ledger', { value });
  return found;
}

export function modelList(json: string | null): string[] | null {
  if (json === null) return null;
  const value: unknown = JSON.parse(json);
  return Array.isArray(value) ? value.map(String) : null;
}
