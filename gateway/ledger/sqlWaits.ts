// How long a refused request should wait, from its book and the rows: asked only when one is refused, and bounded then.
import { number, type Sql, type Statement } from '../sql.ts';
import type { Book } from './books.ts';
import { type EntryRuns, recentEntries } from './entryRuns.ts';
import { amountOf, countsUnder, roomOf } from './limits.ts';
import { leftAtMs } from './minuteWindow.ts';
import { type RunningHold, UNKNOWN_DURATION_MS, waitForHoldsMs } from './retryAfter.ts';
import type { LimitMeter } from './sqlMeters.ts';

/** Running requests that are looked at, and finished ones whose duration is taken as an example. */
const MAX_HOLDS = 256;
const EXAMPLES = 32;
/** Runs of entries that are looked into for them. */
const MAX_RUNS = 8;
const MAX_MEAN_MS = 60_000;

export class SqlWaits {
  readonly #runs: EntryRuns;
  readonly #mean: Statement;

  constructor(db: Sql, runs: EntryRuns) {
    this.#runs = runs;
    this.#mean = db.prepare(
      `SELECT coalesce(avg(settled_ms - reserved_ms), ${UNKNOWN_DURATION_MS}.0) AS mean
       FROM (${recentEntries(MAX_RUNS, EXAMPLES)}) CROSS JOIN entries USING (sequence)`,
    );
  }

  /** Those that are in no run yet: their sequences as JSON. */
  #examples(tenant: string): string {
    const fresh = this.#runs.fresh(tenant, null).slice(-EXAMPLES);
    return JSON.stringify(fresh.map(({ sequence }) => sequence));
  }

  /** Milliseconds, at least 1, until `needed` may have room under this limit. */
  untilMs(meter: LimitMeter, needed: number, { tenant, holds }: Book, atMs: number): number {
    if (meter.ring) {
      const at = leftAtMs(meter.ring, needed - roomOf(meter));
      // More than the whole limit: never, but for an empty window that is as good as it gets.
      return Math.max(1, (at ?? meter.resetsAtMs ?? atMs) - atMs);
    }
    const mean = Math.min(
      MAX_MEAN_MS,
      Math.max(0, number(this.#mean.get(tenant, this.#examples(tenant)) ?? {}, 'mean')),
    );
    const looked: RunningHold[] = [];
    for (const hold of holds.values()) {
      if (looked.length === MAX_HOLDS) break;
      // Who is past its deadline runs no more, but holds its tokens.
      if ((meter.metric === 'concurrent' && hold.state !== 'held') || !countsUnder(meter, hold)) continue;
      const { inputTokens, outputTokens, reservedAtMs, deadlineMs } = hold;
      looked.push({ amount: amountOf(meter.units, inputTokens, outputTokens), reservedAtMs, deadlineMs });
    }
    return waitForHoldsMs(meter, needed, looked, mean, atMs);
  }
}
