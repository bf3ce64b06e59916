// What becomes of a hold whose own request no longer watches it: a pure decision over what its pool says. A pool that signs that it
// knows nothing of a request settles it for nothing only when it can't accept it any more either: since it started after the request
// was signed (it refuses older signatures), since it was told to refuse it (nobody signs it any more), since the signature is too old for any
// pool's clock, or since its deadline has passed. Where its relay may live, a pool that failed, lost the connection or forgot it has not the
// last word: the request may go on at another.
//
//   relay may live:  completed ─▶ now      cancelled, unknown ─▶ when it has found no other pool in its time      lost, failed ─▶ deadline
import type { Receipt } from '../../pool/wire/events.ts';
import { MAX_CLOCK_SKEW_MS } from '../../pool/wire/signing.ts';
import { type Bill, billOf, NOTHING_RELEASED } from '../ledger/bill.ts';

/**
 * A request is signed within this of its reservation, and of each time that it goes on at another pool, or not at all. So a host that can't know whether the request's own relay still lives
 * knows how long it may be signed.
 */
export const SIGN_WITHIN_MS = 30_000;

export interface HoldEvidence {
  /** What the pool knows of the request; null: it signed that it knows nothing. */
  receipt: Receipt | null;
  /** Start of the pool's process, by its clock. */
  poolStartedAtMs: number | null;
  /** No request for this hold was signed after this. */
  signedBeforeMs: number;
  deadlineMs: number;
  nowMs: number;
  /**
   * Its relay may live: where this pool fails it, it takes it to another within this, or not at all. After its deadline none does. null: it
   * has given it up, or died.
   */
  goesOnWithinMs: number | null;
  /** Its pool has said that it takes it no more. */
  fenced: boolean;
}

/** The bill, or null: ask again later. */
export function resolveHold(evidence: HoldEvidence): Bill | null {
  const { receipt, deadlineMs, nowMs } = evidence;
  const pastDeadline = nowMs > deadlineMs + MAX_CLOCK_SKEW_MS;
  if (receipt) {
    const open = receipt.outcome === 'running' || (!pastDeadline && mayGoOn(receipt, evidence));
    return open ? null : billOf(receipt);
  }
  return pastDeadline || neverRuns(evidence) ? { ...NOTHING_RELEASED, outcome: 'failed' } : null;
}

function mayGoOn({ outcome, updated_at_ms }: Receipt, { goesOnWithinMs, nowMs }: HoldEvidence): boolean {
  if (goesOnWithinMs === null || outcome === 'completed') return false;
  // Cancelled is what a pool says of any connection that closed; mostly its client has left, and the relay with it.
  return outcome !== 'cancelled' || nowMs <= updated_at_ms + MAX_CLOCK_SKEW_MS + goesOnWithinMs;
}

/** The pool knows nothing of it, will not accept it, and no relay takes it elsewhere. */
function neverRuns({ poolStartedAtMs, signedBeforeMs, nowMs, goesOnWithinMs, fenced }: HoldEvidence): boolean {
  // The two clocks may differ by one skew in either direction.
  const staleAfterMs = signedBeforeMs + 2 * MAX_CLOCK_SKEW_MS;
  const startedAtMs = poolStartedAtMs ?? Number.NEGATIVE_INFINITY;
  if (goesOnWithinMs === null) return fenced || startedAtMs > signedBeforeMs || nowMs > staleAfterMs;
  // It may have waited at the pool until that ended, for all that the one which took its place knows.
  return nowMs > Math.max(staleAfterMs, startedAtMs + MAX_CLOCK_SKEW_MS) + goesOnWithinMs;
}
