// What a receipt costs: the pool's word on what it released, never more than was reserved for it.
import type { Receipt } from '../../pool/wire/events.ts';
import type { Tokens } from '../prices/price.ts';
import type { HoldBounds } from './decide.ts';

/** How a request ended, as it is billed. `refused`: the pool took nothing on; `estimated`: nobody could see all of it. */
export type BilledOutcome = 'completed' | 'cancelled' | 'failed' | 'refused' | 'estimated';

export interface Bill extends Tokens {
  outcome: BilledOutcome;
  /** Output positions per choice, where they are known; a row has their sum alone. */
  positions?: readonly number[];
}

export const NOTHING_RELEASED: Omit<Bill, 'outcome'> = { inputTokens: 0, cachedInputTokens: 0, outputTokens: 0 };

/** A request that failed before anything was released costs nothing; a cancelled one costs its prompt and what was released. */
export function billOf(receipt: Receipt): Bill {
  const outputTokens = receipt.choices.reduce((sum, released) => sum + released, 0);
  const outcome = receipt.outcome === 'completed' || receipt.outcome === 'cancelled' ? receipt.outcome : 'failed';
  if (outcome === 'failed' && outputTokens === 0) return { ...NOTHING_RELEASED, outcome };
  const { prompt_tokens: inputTokens, cached_tokens: cachedInputTokens, choices: positions } = receipt;
  return { inputTokens, cachedInputTokens, outputTokens, outcome, positions };
}

/** The part of a bill that its hold covers. A pool never releases more than the hold; if one did, the excess is not the tenant's. */
export function withinHold(bill: Bill, hold: HoldBounds): Bill {
  const inputTokens = Math.min(bill.inputTokens, hold.inputTokens);
  const outputTokens = Math.min(bill.outputTokens, hold.outputTokens);
  return { ...bill, inputTokens, cachedInputTokens: Math.min(bill.cachedInputTokens, inputTokens), outputTokens };
}
