// The least expected time to the first token: what a request took there lately for each that the pool had, times those that it has now. With
// pools of one speed it is the least loaded.
import type { Candidate, RoutingPolicy } from './policy.ts';

/** Weight of the newest answer. */
const NEWEST = 0.01;
/** Pools that are remembered; the one not heard of for longest goes. */
const MAX_POOLS = 1024;

export class LeastLatency implements RoutingPolicy {
  /** Milliseconds per request at the pool. */
  readonly #pace = new Map<string, number>();

  choose(candidates: readonly Candidate[]): number {
    let best = 0;
    let least = Number.POSITIVE_INFINITY;
    // One that has not answered yet counts as the fastest that has: it has to be tried.
    const known = candidates.flatMap(({ id }) => this.#pace.get(id) ?? []);
    const untried = known.length > 0 ? Math.min(...known) : 1;
    for (const [i, { id, load }] of candidates.entries()) {
      const expected = (load + 1) * (this.#pace.get(id) ?? untried);
      if (expected >= least) continue;
      best = i;
      least = expected;
    }
    return best;
  }

  answered(poolId: string, load: number, firstTokenMs: number): void {
    const now = firstTokenMs / (load + 1);
    const before = this.#pace.get(poolId) ?? now;
    this.#pace.delete(poolId);
    this.#pace.set(poolId, before + NEWEST * (now - before));
    const oldest = this.#pace.size > MAX_POOLS ? this.#pace.keys().next().value : undefined;
    if (oldest !== undefined) this.#pace.delete(oldest);
  }

  forget(poolId: string): void {
    this.#pace.delete(poolId);
  }
}
