// What becomes of a hold whose own request no longer watches it: a pure decision over what its pool says. A pool that signs that it
// knows nothing of a request settles it for nothing only when it can't accept it any more either: since it started after the request
// was signed (it refuses older signatures), since the signature is too old for any pool's clock, or since its deadline has passed. Where
// its relay may live, a pool that failed has not the last word: the request may go on at another.
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
  /** Its relay may live, and take it to another pool where this one failed. After its deadline none does. */
  mayGoOn: boolean;
}

/** The bill, or null: ask again later. */
export function resolveHold(evidence: HoldEvidence): Bill | null {
  const { receipt, poolStartedAtMs, signedBeforeMs, deadlineMs, nowMs, mayGoOn } = evidence;
  const pastDeadline = nowMs > deadlineMs + MAX_CLOCK_SKEW_MS;
  if (receipt) {
    const open = receipt.outcome === 'running' || (mayGoOn && !pastDeadline && isUnfinished(receipt));
    return open ? null : billOf(receipt);
  }
  const refusedAsOlder = poolStartedAtMs !== null && poolStartedAtMs > signedBeforeMs;
  // The two clocks may differ by one skew in either direction.
  const refusedAsStale = nowMs > signedBeforeMs + 2 * MAX_CLOCK_SKEW_MS;
  return refusedAsOlder || refusedAsStale || pastDeadline ? { ...NOTHING_RELEASED, outcome: 'failed' } : null;
}

/** The pool failed under the request: another may go on with it. */
function isUnfinished({ outcome }: Receipt): boolean {
  return outcome === 'lost' || outcome === 'failed';
}
