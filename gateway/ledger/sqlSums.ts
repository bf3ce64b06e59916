// What of a limit's window is settled, added up from the entries: for a window that nobody has asked for yet, and for a limit that is new; and
// what late entries add to what is known of it.
import { MAX_NANO_USD } from '../prices/price.ts';
import { int, type Row, type Sql, type Statement } from '../sql.ts';
import { type EntryRuns, FOUND } from './entryRuns.ts';
import { bucketsBehind, newestOf, sumBehind } from './lateEntries.ts';
import type { Metric } from './limits.ts';
import { earliestOfMinute, type MinuteBucket, type MinuteRing, oldestSecond, slide } from './minuteWindow.ts';
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
  readonly #runs: EntryRuns;
  /** By their texts, of which there are few; made when they are first asked for. */
  readonly #statements = new Map<string, Statement>();

  constructor(db: Sql, runs: EntryRuns) {
    this.#db = db;
    this.#runs = runs;
  }

  window(tenant: string, rule: StoredRule, window: Window): number {
    const [sum] = this.#sums(rule, tenant, window, '', []);
    return atMost(sum ? int(sum, 'amount') : 0, sumBehind(this.#runs.fresh(tenant, rule.keyId), 0, rule, window));
  }

  minute(tenant: string, rule: StoredRule, second: number): MinuteRing {
    const window = { startMs: earliestOfMinute(second), endMs: null };
    const group = 'AND booked_second >= ?6 GROUP BY booked_second';
    const indexed = this.#sums(rule, tenant, window, group, [oldestSecond(second)]).map((row) => ({
      ...{ second: int(row, 'second'), settled: int(row, 'amount'), held: 0 },
    }));
    return slide(bySecond(indexed, bucketsBehind(this.#runs.fresh(tenant, rule.keyId), 0, rule, second)), second);
  }

  /** What is settled in a window, when so much is by entries through a sequence. */
  windowWithLate(tenant: string, rule: StoredRule, window: Window, settled: number, through: number): number {
    const late = this.#runs.late(tenant, rule.keyId).map((entries) => sumBehind(entries, through, rule, window));
    return late.reduce(atMost, settled);
  }

  /** The same of a minute, as it counts at its own newest second or at `second`, if that is later. */
  minuteWithLate(tenant: string, rule: StoredRule, ring: MinuteRing, through: number, second: number): MinuteRing {
    const late = this.#runs.late(tenant, rule.keyId);
    const newest = Math.max(second, ring.at(-1)?.second ?? 0, ...late.map(newestOf));
    const buckets = late.flatMap((entries) => bucketsBehind(entries, through, rule, newest));
    return slide(bySecond(ring, buckets), newest);
  }

  #sums(
    { metric, models, keyId }: StoredRule,
    tenant: string,
    { startMs, endMs }: Window,
    group: string,
    values: readonly number[],
  ): Row[] {
    if (metric === 'concurrent') return [];
    const text = `WITH ${FOUND}
      SELECT coalesce(max(booked_second), 0) AS second, min(coalesce(${SUMS[metric]}, 0), ${MAX_NANO_USD}) AS amount
      FROM found CROSS JOIN entries USING (sequence) WHERE (?4 = '' OR key_id = ?4)
      AND ${models ? 'model IN (SELECT value FROM json_each(?5))' : '?5 IS NULL'} ${group}`;
    const statement = this.#statements.get(text) ?? this.#db.prepare(text);
    this.#statements.set(text, statement);
    const found = [tenant, startMs, endMs ?? Number.MAX_SAFE_INTEGER];
    return statement.all(...found, keyId ?? '', models && JSON.stringify(models), ...values);
  }
}

function atMost(sum: number, more: number): number {
  return Math.min(sum + more, MAX_NANO_USD);
}

export function bySecond(...buckets: readonly (readonly MinuteBucket[])[]): MinuteBucket[] {
  return buckets.flat().sort((a, b) => a.second - b.second);
}
