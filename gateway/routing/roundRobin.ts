// Each pool in turn, whatever it has to do: a yardstick for the others, and enough where all requests are alike.
import type { Candidate, RoutingPolicy } from './policy.ts';

export class RoundRobin implements RoutingPolicy {
  #last = '';

  choose(candidates: readonly Candidate[]): number {
    const order = [...candidates.keys()].sort((a, b) => (candidates[a]!.id < candidates[b]!.id ? -1 : 1));
    const next = order.find((i) => candidates[i]!.id > this.#last) ?? order[0]!;
    this.#last = candidates[next]!.id;
    return next;
  }
}
