// How often blocks were used that are no longer cached: so that one which comes back is not taken for new. Bounded: the one that
// left longest ago is forgotten first.
import { DigestMap } from './digestMap.ts';

export class UseHistory {
  readonly #placeOf: DigestMap;
  /** A ring of who left, oldest overwritten, [capacity]. */
  readonly #digests: Float64Array;
  readonly #uses: Int32Array;
  #next = 0;

  /** 36 to 60 bytes for each of `capacity` blocks. */
  constructor(capacity: number) {
    this.#placeOf = new DigestMap(capacity);
    this.#digests = new Float64Array(capacity);
    this.#uses = new Int32Array(capacity);
  }

  remember(digest: number, uses: number): void {
    const place = this.#next;
    this.#next = (place + 1) % this.#uses.length;
    const before = this.#digests[place]!;
    if (this.#placeOf.get(before) === place) this.#placeOf.delete(before);
    this.#placeOf.set(digest, place);
    this.#digests[place] = digest;
    this.#uses[place] = uses;
  }

  /** Uses of a block that left, 0 where it is not remembered. It is forgotten here: it is back. */
  recall(digest: number): number {
    const place = this.#placeOf.get(digest);
    if (place === -1) return 0;
    this.#placeOf.delete(digest);
    return this.#uses[place]!;
  }
}
