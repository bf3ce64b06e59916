// What a gateway would know that heard of every eviction at once: the pools' caches themselves, in the place of what was routed to them. The bound of
// what eviction events could be worth to a policy.
import type { Pieces } from '../../gateway/routing/policy.ts';
import { PrefixMap } from '../../gateway/routing/prefixMap.ts';
import type { SimulatedPool } from './pool.ts';

export class ExactMap extends PrefixMap {
  readonly #pools = new Map<string, SimulatedPool>();

  /** The pools of the simulation, before its first request. */
  watch(pools: readonly SimulatedPool[]): void {
    for (const pool of pools) this.#pools.set(pool.id, pool);
  }

  override matches(pieces: Pieces): Map<string, number> {
    const blocks = Int32Array.from(pieces, Number);
    return new Map(Array.from(this.#pools, ([id, pool]) => [id, pool.cached(blocks)]));
  }

  override held(pool: string): number {
    return this.#pools.get(pool)?.held ?? 0;
  }
}
