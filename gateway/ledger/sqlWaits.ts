// How long a refused request should wait, from the rows: asked only when one is refused, and bounded then.
import { int, number, type Sql, type Statement } from '../sql.ts';
import { amountOf, roomOf } from './limits.ts';
import { leftAtMs } from './minuteWindow.ts';
import { UNKNOWN_DURATION_MS, waitForHoldsMs } from './retryAfter.ts';
import type { Booking, LimitMeter } from './sqlMeters.ts';

/** Running requests that are looked at, and finished ones whose duration is taken as an example. */
const MAX_HOLDS = 256;
const EXAMPLES = 32;
const MAX_MEAN_MS = 60_000;

export class SqlWaits {
  readonly #holds: Statement;
  readonly #mean: Statement;

  constructor(db: Sql) {
    this.#holds = db.prepare(
      `SELECT input_tokens, output_tokens, reserved_ms, deadline_ms FROM holds
       WHERE tenant = ?1 AND (?4 = 0 OR state = 'held') AND (?2 = '' OR key_id = ?2) AND (?3 IS NULL OR model IN (SELECT value FROM json_each(?3)))
       ORDER BY reserved_ms LIMIT ${MAX_HOLDS}`,
    );
    this.#mean = db.prepare(
      `SELECT coalesce(avg(duration), ${UNKNOWN_DURATION_MS}.0) AS mean FROM
         (SELECT settled_ms - reserved_ms AS duration FROM entries WHERE tenant = ? ORDER BY reserved_ms DESC LIMIT ${EXAMPLES})`,
    );
  }

  /** Milliseconds, at least 1, until `needed` may have room under this limit. */
  untilMs(meter: LimitMeter, needed: number, { tenant, atMs }: Booking): number {
    if (meter.ring) {
      const at = leftAtMs(meter.ring, needed - roomOf(meter));
      // More than the whole limit: never, but for an empty window that is as good as it gets.
      return Math.max(1, (at ?? meter.resetsAtMs ?? atMs) - atMs);
    }
    const mean = Math.min(MAX_MEAN_MS, Math.max(0, number(this.#mean.get(tenant) ?? {}, 'mean')));
    // Who is past its deadline runs no more, but holds its tokens.
    const running = meter.metric === 'concurrent' ? 1 : 0;
    const holds = this.#holds.all(tenant, meter.keyId ?? '', meter.models && JSON.stringify(meter.models), running);
    return waitForHoldsMs(
      meter,
      needed,
      holds.map((row) => ({
        amount: amountOf(meter.units, int(row, 'input_tokens'), int(row, 'output_tokens')),
        reservedAtMs: int(row, 'reserved_ms'),
        deadlineMs: int(row, 'deadline_ms'),
      })),
      mean,
      atMs,
    );
  }
}
