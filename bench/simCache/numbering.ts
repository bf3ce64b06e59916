// Numbers what it is shown, in the order of first sight: 0, 1, 2, …  Flat arrays that double, because a Map ends at 2^24 entries and a
// trace of small blocks has more than that.
import { DigestMap } from '../../engine/eviction/digestMap.ts';

const FIRST_CAPACITY = 1_024;

export class Numbering {
  #numberOf = new DigestMap(FIRST_CAPACITY);
  /** What has which number, [capacity]. */
  #keys = new Float64Array(FIRST_CAPACITY);

  get size(): number {
    return this.#numberOf.size;
  }

  /** `key`: a whole number below 2^53. */
  number(key: number): number {
    const known = this.#numberOf.get(key);
    if (known >= 0) return known;
    const next = this.size;
    if (next === this.#keys.length) this.#grow();
    this.#keys[next] = key;
    this.#numberOf.set(key, next);
    return next;
  }

  #grow(): void {
    const keys = new Float64Array(2 * this.#keys.length);
    keys.set(this.#keys);
    const numberOf = new DigestMap(keys.length);
    for (let i = 0; i < this.#keys.length; i++) numberOf.set(keys[i]!, i);
    this.#keys = keys;
    this.#numberOf = numberOf;
  }
}
