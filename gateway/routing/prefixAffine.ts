// Where the least is to be computed before the request's own first token: pieces of its prompt that the pool doesn't have, and what those before
// it will take, at the price of an average request each. A warm prefix so draws requests until the queue behind it costs more than computing the
// prefix somewhere else; then it is computed there, and two pools have it. A piece that is new to a pool costs up to twice, by how much the pool
// has already: what it drives out there is missed later, and idle pools fill alike.
//
// Peers weigh the two by thresholds (sglang: shortest queue when it is 64 and 1.5 times apart, else a match of 0.3). One unit for both needs none.
import type { Candidate, Pieces, RoutingPolicy } from './policy.ts';
import { PrefixMap } from './prefixMap.ts';

/** Weight of the newest request in what an average one costs. */
const NEWEST = 0.02;
/** With fewer prompts of this size no pool is full. */
const UNCROWDED = 4;
/** Pieces: what a request takes beside its prompt, and one whose prompt is all there. */
const LEAST_COST = 1;

export class PrefixAffine implements RoutingPolicy {
  readonly #map: PrefixMap;
  /** Pieces that had to be computed for a request, smoothed. */
  #average = LEAST_COST;

  constructor(map = new PrefixMap()) {
    this.#map = map;
  }

  choose(candidates: readonly Candidate[], pieces: Pieces): number {
    const matches = this.#map.matches(pieces);
    const full = Math.max(1, UNCROWDED * pieces.length, ...candidates.map(({ id }) => this.#map.held(id)));
    let best = 0;
    let least = Number.POSITIVE_INFINITY;
    let bestMissing = 0;
    for (const [i, { id, load }] of candidates.entries()) {
      const missing = pieces.length - (matches.get(id) ?? 0);
      const crowding = this.#map.held(id) / full;
      const cost = load * this.#average + missing * (1 + crowding);
      if (cost >= least) continue;
      best = i;
      least = cost;
      bestMissing = missing;
    }
    this.#average += NEWEST * (Math.max(LEAST_COST, bestMissing) - this.#average);
    return best;
  }

  computed(poolId: string, pieces: Pieces): void {
    this.#map.add(poolId, pieces);
  }

  forget(poolId: string): void {
    this.#map.forget(poolId);
  }
}
