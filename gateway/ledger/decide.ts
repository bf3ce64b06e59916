// Does a reservation fit? A pure decision over the meters of every window that it would be booked in: over all of them or none.
//
//   limit ├──── settled ────┼──── held ────┼──── room ────┤      settled + held ≤ limit, always
//
// tokens > limit             → too_large   never fits: shorten it
// settled + amount > limit   → exhausted   fits only in the next window: don't retry
// no room in a sliding one   → rate        fits when the oldest has left it, or when a running request ends: retry
// no room but for holds      → held        fits when running requests end: retry
import { invariant } from '../invariant.ts';
import { amountOf, type LimitWindow, type Metric, passes, roomOf, type Units } from './limits.ts';

/** One limit's counters in one window, and what this request takes of it. */
export interface Meter {
  metric: Metric;
  window: LimitWindow;
  limit: number;
  settled: number;
  held: number;
  units: Units;
}

export interface Demand {
  /** Upper bound of all prompts' tokens, or their exact count. */
  promptTokens: number;
  promptExact: boolean;
  /** Choices over all prompts; at least one. */
  choices: number;
  /** Output tokens per choice; a flexible one may be granted less, down to 1. */
  outputTokens: number;
  outputFlexible: boolean;
  /** Of these bounds, what earlier attempts of the request were billed already: it needs that much less. */
  billed?: HoldBounds;
}

/** Upper bounds of what a request may be billed. */
export interface HoldBounds {
  inputTokens: number;
  outputTokens: number;
}

/** A loose bound is worth a count when it takes more than this share of the room that is left. */
export const COUNT_ABOVE_SHARE_OF_ROOM = 0.01;

export type RefusalKind = 'too_large' | 'exhausted' | 'rate' | 'held';

export type Decision<M extends Meter> =
  /** `hold`: all that the request may be billed; `held`: without what was billed already. */
  | { kind: 'granted'; outputTokens: number; hold: HoldBounds; held: HoldBounds }
  | { kind: 'count_first' }
  /** `refusing`: the meters that refuse in this way, each with what the request needs of it at least. */
  | { kind: RefusalKind; refusing: { meter: M; needed: number }[] };

export function decide<M extends Meter>(meters: readonly M[], demand: Demand): Decision<M> {
  const { promptTokens, promptExact, choices, outputFlexible, billed } = demand;
  for (const amount of [promptTokens, choices, demand.outputTokens])
    invariant(Number.isSafeInteger(amount) && amount >= 0, 'token amounts are whole numbers', { ...demand });
  const leastOutput = outputFlexible ? Math.min(1, demand.outputTokens) : demand.outputTokens;
  // Without a count it is certain only that there is one prompt token: enough to refuse, where even that has no room.
  const certain = { inputTokens: Math.min(1, promptTokens), outputTokens: choices * leastOutput };
  const certainly = unbilled(certain, billed);
  const loose =
    !promptExact &&
    meters.some(
      (meter) =>
        meter.units.inputToken > 0 &&
        needOf(meter, unbilled({ inputTokens: promptTokens, outputTokens: choices * demand.outputTokens }, billed)) >
          roomOf(meter) * COUNT_ABOVE_SHARE_OF_ROOM,
    );
  if (loose && meters.every((meter) => needOf(meter, certainly) <= roomOf(meter))) return { kind: 'count_first' };

  const affordable = Math.min(...meters.map((meter) => affordableOutput(meter, promptTokens, choices)));
  const outputTokens = outputFlexible
    ? Math.max(leastOutput, Math.min(demand.outputTokens, affordable))
    : demand.outputTokens;
  const hold = loose ? certain : { inputTokens: promptTokens, outputTokens: choices * outputTokens };
  const held = unbilled(hold, billed);
  const short = meters
    .map((meter) => ({ meter, needed: needOf(meter, held) }))
    .filter(({ meter, needed }) => needed > roomOf(meter));
  if (short.length === 0) return { kind: 'granted', outputTokens, hold, held };
  for (const kind of ['too_large', 'exhausted'] as const) {
    const refusing = short.filter((one) => kindOf(one) === kind);
    if (refusing.length > 0) return { kind, refusing };
  }
  return { kind: short.some((one) => kindOf(one) === 'rate') ? 'rate' : 'held', refusing: short };
}

function unbilled(bounds: HoldBounds, billed: HoldBounds = { inputTokens: 0, outputTokens: 0 }): HoldBounds {
  return {
    inputTokens: Math.max(0, bounds.inputTokens - billed.inputTokens),
    outputTokens: Math.max(0, bounds.outputTokens - billed.outputTokens),
  };
}

function needOf({ units }: Meter, { inputTokens, outputTokens }: HoldBounds): number {
  return amountOf(units, inputTokens, outputTokens);
}

function affordableOutput({ units, ...meter }: Meter, promptTokens: number, choices: number): number {
  const perToken = units.outputToken * choices;
  if (perToken === 0) return Number.POSITIVE_INFINITY;
  return Math.floor((roomOf(meter) - amountOf(units, promptTokens, 0)) / perToken);
}

function kindOf({ meter, needed }: { meter: Meter; needed: number }): RefusalKind {
  if (meter.metric === 'tokens' && needed > meter.limit) return 'too_large';
  if (passes(meter)) return 'rate';
  return meter.settled + needed > meter.limit ? 'exhausted' : 'held';
}
