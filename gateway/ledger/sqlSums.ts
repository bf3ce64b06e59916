// What of a limit's window is settled, added up from the entries: for a window that nobody has asked for yet, and for a limit that is new. After
// that its meter is moved along.
import { MAX_NANO_USD } from '../prices/price.ts';
import { int, type Row, type Sql, type Statement } from '../sql.ts';
import { type EntryRuns, FOUND } from './entryRuns.ts';
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

/** As `FOUND`, of the sequences that are given alone. */
const LATE = 'found (sequence) AS (SELECT value FROM json_each(?4))';

export class SqlSums {
  readonly #db: Sql;
  readonly #runs: EntryRuns;
  /** By their texts, of which there are few; made when they are first asked for. */
  readonly #statements = new Map<string, Statement>();

  constructor(db: Sql, runs: EntryRuns) {
    this.#db = db;
    this.#runs = runs;
  }

  /** Of its late entries `late`, or of all. */
  window(tenant: string, rule: StoredRule, window: Window, late: string | null = null): number {
    const [sum] = this.#sums(rule, tenant, window, '', [], late);
    return sum ? int(sum, 'amount') : 0;
  }

  /** The same of those that may count at `second`. */
  minute(tenant: string, rule: StoredRule, second: number, late: string | null = null): MinuteRing {
    const window = { startMs: earliestOfMinute(second), endMs: null };
    const group = 'AND booked_second >= ?7 GROUP BY booked_second ORDER BY booked_second';
    const sums = this.#sums(rule, tenant, window, group, [oldestSecond(second)], late);
    return slide(
      sums.map((row) => ({ second: int(row, 'second'), settled: int(row, 'amount'), held: 0 })),
      second,
    );
  }

  #sums(
    { metric, models, keyId }: StoredRule,
    tenant: string,
    { startMs, endMs }: Window,
    group: string,
    values: readonly number[],
    late: string | null,
  ): Row[] {
    if (metric === 'concurrent') return [];
    const text = `WITH ${late ? LATE : FOUND}
      SELECT coalesce(max(booked_second), 0) AS second, min(coalesce(${SUMS[metric]}, 0), ${MAX_NANO_USD}) AS amount
      FROM found CROSS JOIN entries USING (sequence)
      WHERE reserved_ms >= ?2 AND reserved_ms < ?3 AND (?5 = '' OR key_id = ?5)
      AND ${models ? 'model IN (SELECT value FROM json_each(?6))' : '?6 IS NULL'} ${group}`;
    const statement = this.#statements.get(text) ?? this.#db.prepare(text);
    this.#statements.set(text, statement);
    const found = [tenant, startMs, endMs ?? Number.MAX_SAFE_INTEGER, late ?? this.#runs.fresh(tenant)];
    return statement.all(...found, keyId ?? '', models && JSON.stringify(models), ...values);
  }
}
