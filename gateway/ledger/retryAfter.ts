// When a refused request may fit: a guess from what is known of the running ones. Each is taken to run as long as this tenant's requests
// ran lately, and to free all that it holds. Never past its deadline, which the pool enforces.
import { type LimitState, roomOf } from './limits.ts';

/** Sooner is not worth a request; also what is told where a running one is overdue. */
const MIN_WAIT_MS = 250;
/** Where nothing has been settled yet. */
export const UNKNOWN_DURATION_MS = 1000;

export interface RunningHold {
  amount: number;
  reservedAtMs: number;
  deadlineMs: number;
}

export function waitForHoldsMs(
  limit: Pick<LimitState, 'limit' | 'settled' | 'held'>,
  needed: number,
  holds: readonly RunningHold[],
  meanDurationMs: number,
  nowMs: number,
): number {
  const ends = holds
    .map(({ amount, reservedAtMs, deadlineMs }) => ({
      amount,
      waitMs: Math.max(MIN_WAIT_MS, Math.min(deadlineMs, reservedAtMs + meanDurationMs) - nowMs),
    }))
    .sort((a, b) => a.waitMs - b.waitMs);
  let room = roomOf(limit);
  for (const { amount, waitMs } of ends) {
    room += amount;
    if (room >= needed) return Math.ceil(waitMs);
  }
  return Math.ceil(Math.max(MIN_WAIT_MS, meanDurationMs));
}
