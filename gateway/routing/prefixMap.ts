// Which pools have computed which beginnings of prompts, as far as a gateway knows: a bounded memory of digests, the least recently used of which
// goes. It forgets too much or too little, never wrongly: a pool that has lost a prefix computes it again.
import { LRUCache } from 'lru-cache';
import type { Pieces } from './policy.ts';

/** Digests that are remembered: those of a thousand prompts of sixteen thousand tokens, at about 150 bytes each. */
const MAX_DIGESTS = 2 ** 17;

export class PrefixMap {
  readonly #pools: LRUCache<string, Set<string>>;
  readonly #held = new Map<string, number>();

  constructor(maxDigests = MAX_DIGESTS) {
    this.#pools = new LRUCache({
      // As a sum of sizes, for which nothing is allocated ahead: most registries, such as those of tenants' objects, never route.
      maxSize: maxDigests,
      sizeCalculation: () => 1,
      dispose: (pools) => {
        for (const pool of pools) this.#count(pool, -1);
      },
    });
  }

  /** Pieces that a pool has. */
  held(pool: string): number {
    return this.#held.get(pool) ?? 0;
  }

  /** Leading pieces that each pool has, of those that have any. */
  matches(pieces: Pieces): Map<string, number> {
    const lengths = new Map<string, number>();
    let holders: readonly string[] = [];
    for (const [i, digest] of pieces.entries()) {
      const pools = this.#pools.peek(digest);
      if (!pools) break;
      holders = i === 0 ? [...pools] : holders.filter((pool) => pools.has(pool));
      if (holders.length === 0) break;
      for (const pool of holders) lengths.set(pool, i + 1);
    }
    return lengths;
  }

  add(pool: string, pieces: Pieces): void {
    // Tails first: of one prompt they are forgotten before its head.
    for (let i = pieces.length - 1; i >= 0; i--) {
      const digest = pieces[i]!;
      const pools = this.#pools.get(digest);
      if (pools?.has(pool)) continue;
      if (pools) pools.add(pool);
      else this.#pools.set(digest, new Set([pool]));
      this.#count(pool, 1);
    }
  }

  forget(pool: string): void {
    for (const [digest, pools] of this.#pools.entries()) {
      pools.delete(pool);
      if (pools.size === 0) this.#pools.delete(digest);
    }
    this.#held.delete(pool);
  }

  #count(pool: string, by: number): void {
    this.#held.set(pool, this.held(pool) + by);
  }
}
