// Where a request's hold ends, as its relay sees it: with a bill that came in time, or left to a part of the host that doesn't depend on
// the request's own life.
import type { Clock } from '../clock.ts';
import type { Bill } from '../ledger/bill.ts';
import type { SealedAnswer } from '../ledger/idempotency.ts';
import type { Hold, Ledger, SettleCommand, Settlement } from '../ledger/port.ts';
import type { Metrics } from '../metrics.ts';

/** `pool`: that has the request now. */
export type LeftHold = Pick<Hold, 'requestId' | 'tenant' | 'pool' | 'deadlineMs'>;

/** `word`: whose it is, where it is not the relay's own. */
export interface SettleMore {
  answer?: SealedAnswer | null | undefined;
  word?: SettleCommand['word'];
}

export interface Settling {
  /**
   * Its hold is about to be made, and its relay will end it: until then nobody else concludes that the pool never got it. What is given back says that
   * nothing was reserved after all: of two retries under one idempotency key, which have one id, the one that came too late.
   */
  watch(requestId: string): () => void;
  /** The one way to a bill: idempotent by request id. `answer`: to be replayed to who comes again under its key. */
  settle(tenant: string, requestId: string, bill: Bill, more?: SettleMore): Promise<Settlement>;
  /**
   * An answer's end waits until its bill is durable here. It need not wait where each command of the ledger comes after those that were given before,
   * and whatever ends this process leaves the pools' journals, which have had the receipt since before the end was told; unless other bills are
   * booked at this moment: those that share a commit are answered together, which costs less than one by one.
   */
  readonly settlesFirst: boolean;
  /** The relay gives a request up without a bill. It is not signed for a pool after this. */
  leave(hold: LeftHold): void;
}

/** Books a bill and counts it once. */
export async function book(
  { ledger, clock, metrics }: { ledger: Ledger; clock: Clock; metrics: Metrics },
  tenant: string,
  requestId: string,
  bill: Bill,
  { answer, word }: SettleMore = {},
): Promise<Settlement> {
  const nowMs = clock.now();
  const settlement = await ledger.settle({
    ...{ tenant, requestId, bill, nowMs },
    ...(answer && { answer }),
    ...(word && { word }),
  });
  if (settlement === 'booked')
    metrics.settled(bill.outcome, bill.inputTokens, bill.cachedInputTokens, bill.outputTokens);
  return settlement;
}
