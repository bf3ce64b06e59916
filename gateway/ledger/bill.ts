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

/**
 * A request that failed before anything was released costs nothing; a cancelled one costs its prompt and what was released. Where that could
 * not be counted exactly, what is proven of it is billed, and marked.
 */
export function billOf(receipt: Receipt): Bill {
  const outputTokens = receipt.choices.reduce((sum, released) => sum + released, 0);
  const ended = receipt.outcome === 'completed' || receipt.outcome === 'cancelled' ? receipt.outcome : 'failed';
  if (ended === 'failed' && outputTokens === 0) return { ...NOTHING_RELEASED, outcome: ended };
  const outcome = receipt.estimated ? 'estimated' : ended;
  const { prompt_tokens: inputTokens, cached_tokens: cachedInputTokens, choices: positions } = receipt;
  return { inputTokens, cachedInputTokens, outputTokens, outcome, positions };
}

/** What a request has released so far, as its gateway was told: billed however the rest of it goes. */
export interface Released {
  inputTokens: number;
  cachedInputTokens: number;
  /** Per choice. */
  positions: readonly number[];
}

/** A bill that says no less than what was released before the pool that it is of had the request. */
export function atLeast(bill: Bill, before: Released | null): Bill {
  if (!before) return bill;
  const { positions: own = [] } = bill;
  const choices = Math.max(own.length, before.positions.length);
  const positions = Array.from({ length: choices }, (_, i) => Math.max(own[i] ?? 0, before.positions[i] ?? 0));
  // The prompt's cached part is that of the pool that told it first; one that knows the request goes on from it.
  const { inputTokens, cachedInputTokens } = bill.inputTokens >= before.inputTokens ? bill : before;
  return {
    outcome: bill.outcome,
    inputTokens,
    cachedInputTokens,
    outputTokens: Math.max(
      bill.outputTokens,
      positions.reduce((sum, released) => sum + released, 0),
    ),
    positions,
  };
}

/** The part of a bill that its hold covers. A pool never releases more than the hold; if one did, the excess is not the tenant's. */
export function withinHold(bill: Bill, hold: HoldBounds): Bill {
  const inputTokens = Math.min(bill.inputTokens, hold.inputTokens);
  const outputTokens = Math.min(bill.outputTokens, hold.outputTokens);
  return { ...bill, inputTokens, cachedInputTokens: Math.min(bill.cachedInputTokens, inputTokens), outputTokens };
}
