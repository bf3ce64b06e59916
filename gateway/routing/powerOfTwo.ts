// The less loaded of two that are drawn (Mitzenmacher, 2001): nearly as even as the least loaded of all, and many gateways with stale
// pictures of the same pools don't all run to the same one.
import type { Candidate, RoutingPolicy } from './policy.ts';

export class PowerOfTwo implements RoutingPolicy {
  readonly #random: () => number;

  /** `random`: evenly over [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  choose(candidates: readonly Candidate[]): number {
    const first = this.#below(candidates.length);
    if (candidates.length === 1) return first;
    const other = this.#below(candidates.length - 1);
    const second = other < first ? other : other + 1;
    return candidates[second]!.load < candidates[first]!.load ? second : first;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }
}
