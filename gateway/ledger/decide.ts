// Does a reservation fit? A pure decision over the meters of every window that it would be booked in: over all of them or none.
//
//   limit ├──── settled ────┼──── held ────┼──── room ────┤      settled + held ≤ limit, always
//
// tokens > limit            → too_large   never fits: shorten it
// settled + tokens > limit  → exhausted   fits only in the next window: don't retry
// no room but for holds     → held        fits when running requests end: retry
import { invariant } from '../invariant.ts';

/** One quota's counters in one window. */
export interface Meter {
  limitTokens: number;
  settledTokens: number;
  heldTokens: number;
}

export interface Demand {
  /** Upper bound of all prompts' tokens, or their exact count. */
  promptTokens: number;
  promptExact: boolean;
  /** Choices over all prompts. */
  choices: number;
  /** Output tokens per choice; a flexible one may be granted less, down to 1. */
  outputTokens: number;
  outputFlexible: boolean;
}

/** A loose bound is worth a count when it takes more than this share of the room that is left. */
export const COUNT_ABOVE_SHARE_OF_ROOM = 0.01;

export type Decision<M extends Meter> =
  | { kind: 'granted'; outputTokens: number; holdTokens: number }
  | { kind: 'count_first' }
  /** `neededTokens`: what it needs at least. */
  | { kind: 'too_large' | 'exhausted' | 'held'; meter: M; neededTokens: number };

export function roomOf(meter: Meter): number {
  return Math.max(0, meter.limitTokens - meter.settledTokens - meter.heldTokens);
}

/** The meter with the least room; undefined without meters. */
export function tightest<M extends Meter>(meters: readonly M[]): M | undefined {
  return meters.reduce<M | undefined>((least, m) => (least && roomOf(least) <= roomOf(m) ? least : m), undefined);
}

export function decide<M extends Meter>(meters: readonly M[], demand: Demand): Decision<M> {
  const { promptTokens, promptExact, choices, outputFlexible } = demand;
  for (const amount of [promptTokens, choices, demand.outputTokens])
    invariant(Number.isSafeInteger(amount) && amount >= 0, 'token amounts are whole numbers', { ...demand });
  const wanted = promptTokens + choices * demand.outputTokens;
  const least = tightest(meters);
  if (!least) return { kind: 'granted', outputTokens: demand.outputTokens, holdTokens: wanted };
  const room = roomOf(least);
  const leastOutput = outputFlexible ? Math.min(1, demand.outputTokens) : demand.outputTokens;
  const loose = !promptExact && wanted > room * COUNT_ABOVE_SHARE_OF_ROOM;
  // Without a count it is certain only that there is one prompt token: enough to refuse, where even that has no room.
  const certain = Math.min(1, promptTokens) + choices * leastOutput;
  if (loose && certain <= room) return { kind: 'count_first' };

  const affordable = Math.floor((room - promptTokens) / choices);
  const outputTokens = outputFlexible
    ? Math.max(leastOutput, Math.min(demand.outputTokens, affordable))
    : demand.outputTokens;
  const neededTokens = loose ? certain : promptTokens + choices * outputTokens;
  if (neededTokens <= room) return { kind: 'granted', outputTokens, holdTokens: neededTokens };
  const tooLarge = meters.find((meter) => neededTokens > meter.limitTokens);
  if (tooLarge) return { kind: 'too_large', meter: tooLarge, neededTokens };
  const exhausted = meters.find((meter) => meter.settledTokens + neededTokens > meter.limitTokens);
  if (exhausted) return { kind: 'exhausted', meter: exhausted, neededTokens };
  return { kind: 'held', meter: least, neededTokens };
}
