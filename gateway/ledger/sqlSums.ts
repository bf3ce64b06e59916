// What a limit's window has counted, added up from the rows themselves: for a window that nobody has asked for yet, and for a limit that is
// new. After that its meter is moved along.
import { MAX_NANO_USD } from '../prices/price.ts';
import { int, type Sql } from '../sql.ts';
import type { Metric } from './limits.ts';
import { type MinuteRing, oldestSecond, slide } from './minuteWindow.ts';
import type { StoredRule } from './sqlRules.ts';
import type { Window } from './windows.ts';

/** A second that stood still is at most this far ahead of its reservation's own time. */
const MAX_BOOKED_AHEAD_S = 301;

/** What rows add up to, by metric. */
const SUMS: Readonly<Record<'entries' | 'holds', Readonly<Record<Metric, string>>>> = {
  entries: { requests: 'count(*)', tokens: 'sum(input + output)', spend: 'sum(cost_nano)', concurrent: '0' },
  holds: {
    requests: 'count(*)',
    tokens: 'sum(input_tokens + output_tokens)',
    spend: 'sum(input_tokens * input_price + output_tokens * output_price)',
    concurrent: "count(*) FILTER (WHERE state = 'held')",
  },
};

export class SqlSums {
  readonly #db: Sql;

  constructor(db: Sql) {
    this.#db = db;
  }

  window(tenant: string, rule: StoredRule, { startMs, endMs }: Window): { settled: number; held: number } {
    const within = 'reserved_ms >= ?3 AND reserved_ms < ?4';
    const sum = (table: 'entries' | 'holds') =>
      this.#sums(table, rule, tenant, within, [startMs, endMs ?? Number.MAX_SAFE_INTEGER], '')[0]?.amount ?? 0;
    return { settled: sum('entries'), held: sum('holds') };
  }

  minute(tenant: string, rule: StoredRule, second: number): MinuteRing {
    const bySecond = new Map<number, { settled: number; held: number }>();
    for (const [table, column] of [
      ['entries', 'settled'],
      ['holds', 'held'],
    ] as const) {
      // A row's second is never so long before its reservation that the index wouldn't lead to it.
      const within = `reserved_ms >= ?3 AND booked_second >= ?4`;
      const from = [(oldestSecond(second) - MAX_BOOKED_AHEAD_S) * 1000, oldestSecond(second)];
      for (const { second: at, amount } of this.#sums(table, rule, tenant, within, from, 'GROUP BY booked_second')) {
        const sum = bySecond.get(at) ?? { settled: 0, held: 0 };
        bySecond.set(at, { ...sum, [column]: amount });
      }
    }
    const ring = [...bySecond].sort(([a], [b]) => a - b).map(([at, sums]) => ({ second: at, ...sums }));
    return slide(ring, second);
  }

  #sums(
    table: 'entries' | 'holds',
    { metric, models, keyId }: StoredRule,
    tenant: string,
    within: string,
    values: readonly number[],
    group: '' | 'GROUP BY booked_second',
  ): { second: number; amount: number }[] {
    return this.#db
      .prepare(
        `SELECT coalesce(max(booked_second), 0) AS second, min(coalesce(${SUMS[table][metric]}, 0), ${MAX_NANO_USD}) AS amount
         FROM ${table} WHERE tenant = ?1 AND (?2 = '' OR key_id = ?2) AND ${within}
         AND ${models ? 'model IN (SELECT value FROM json_each(?5))' : '?5 IS NULL'} ${group}`,
      )
      .all(tenant, keyId ?? '', ...values, models && JSON.stringify(models))
      .map((row) => ({ second: int(row, 'second'), amount: int(row, 'amount') }));
  }
}
