// A map from 53-bit digests to small integers in two flat arrays: 12 bytes a slot, no garbage, a fixed bound. Open addressing with
// linear probing; deletion closes the gap (Knuth, The Art of Computer Programming 6.4, algorithm R), so there are no tombstones.
import { invariant } from '../invariant.ts';

export class DigestMap {
  readonly capacity: number;
  readonly #mask: number;
  readonly #digests: Float64Array;
  /** The value, -1 where the slot is vacant. */
  readonly #values: Int32Array;
  #size = 0;

  /** At most `capacity` digests; slots are at most half full. */
  constructor(capacity: number) {
    this.capacity = capacity;
    const slots = 2 ** Math.ceil(Math.log2(2 * capacity + 2));
    this.#mask = slots - 1;
    this.#digests = new Float64Array(slots);
    this.#values = new Int32Array(slots).fill(-1);
  }

  get size(): number {
    return this.#size;
  }

  /** -1 when absent. */
  get(digest: number): number {
    return this.#values[this.#slot(digest)]!;
  }

  /** `value` ≥ 0. */
  set(digest: number, value: number): void {
    const slot = this.#slot(digest);
    if (this.#values[slot] === -1) {
      invariant(this.#size < this.capacity, 'a digest map stays within its bound', { capacity: this.capacity });
      this.#size += 1;
      this.#digests[slot] = digest;
    }
    this.#values[slot] = value;
  }

  delete(digest: number): void {
    let vacant = this.#slot(digest);
    if (this.#values[vacant] === -1) return;
    this.#size -= 1;
    const mask = this.#mask;
    for (let slot = (vacant + 1) & mask; this.#values[slot] !== -1; slot = (slot + 1) & mask) {
      const home = this.#home(this.#digests[slot]!);
      if (((slot - home) & mask) < ((slot - vacant) & mask)) continue;
      this.#digests[vacant] = this.#digests[slot]!;
      this.#values[vacant] = this.#values[slot]!;
      vacant = slot;
    }
    this.#values[vacant] = -1;
  }

  /** Where the digest stands, or the vacant slot where it would. */
  #slot(digest: number): number {
    let slot = this.#home(digest);
    while (this.#values[slot] !== -1 && this.#digests[slot] !== digest) slot = (slot + 1) & this.#mask;
    return slot;
  }

  #home(digest: number): number {
    const folded = Math.imul(((digest % 4294967296) | 0) ^ Math.floor(digest / 4294967296), 0x9e3779b1);
    return (folded ^ (folded >>> 15)) & this.#mask;
  }
}
