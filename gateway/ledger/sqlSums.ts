// What of a limit's window is settled, added up from the entries: for a window that nobody has asked for yet, and for a limit that is new. After
// that its meter is moved along.
import { MAX_NANO_USD } from '../prices/price.ts';
import { int, type Row, type Sql, type Statement } from '../sql.ts';
import type { Metric } from './limits.ts';
import { earliestOfMinute, type MinuteRing, oldestSecond, slide } from './minuteWindow.ts';
import type { StoredRule } from './sqlRules.ts';
import type { Window } from './windows.ts';

/** What entries add up to; nothing that is settled runs. */
const SUMS: Readonly<Record<Exclude<Metric, 'concurrent'>, string>> = {
  requests: 'count(*)',
  tokens: 'sum(input + output)',
  spend: 'sum(cost_nano)',
};

export class SqlSums {
  readonly #db: Sql;
  /** By their texts, of which there are few; made when they are first asked for. */
  readonly #statements = new Map<string, Statement>();

  constructor(db: Sql) {
    this.#db = db;
  }

  window(tenant: string, rule: StoredRule, { startMs, endMs }: Window): number {
    const within = 'reserved_ms >= ?3 AND reserved_ms < ?4';
    const [sum] = this.#sums(rule, tenant, within, [startMs, endMs ?? Number.MAX_SAFE_INTEGER], '');
    return sum ? int(sum, 'amount') : 0;
  }

  minute(tenant: string, rule: StoredRule, second: number): MinuteRing {
    const within = 'reserved_ms >= ?3 AND booked_second >= ?4';
    const from = [earliestOfMinute(second), oldestSecond(second)];
    const sums = this.#sums(rule, tenant, within, from, 'GROUP BY booked_second ORDER BY booked_second');
    return slide(
      sums.map((row) => ({ second: int(row, 'second'), settled: int(row, 'amount'), held: 0 })),
      second,
    );
  }

  #sums(
    { metric, models, keyId }: StoredRule,
    tenant: string,
    within: string,
    values: readonly number[],
    group: string,
  ): Row[] {
    if (metric === 'concurrent') return [];
    const text = `SELECT coalesce(max(booked_second), 0) AS second, min(coalesce(${SUMS[metric]}, 0), ${MAX_NANO_USD}) AS amount
      FROM entries WHERE tenant = ?1 AND (?2 = '' OR key_id = ?2) AND ${within}
      AND ${models ? 'model IN (SELECT value FROM json_each(?5))' : '?5 IS NULL'} ${group}`;
    const statement = this.#statements.get(text) ?? this.#db.prepare(text);
    this.#statements.set(text, statement);
    return statement.all(tenant, keyId ?? '', ...values, models && JSON.stringify(models));
  }
}
