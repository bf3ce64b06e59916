// Where the end of a text occurred before: the longest match of its last tokens with an earlier place, of equals the latest. As in LZ77:
// tokens are chained by a hash of the last MIN_MATCH, and a match that the next token continues needs no search, since the longest match
// of what is one longer can't begin elsewhere than the longest of what was. O(1) amortised per token, at most MAX_CANDIDATES places
// looked at per search; memory is two words per token of a bounded window.
//
//   … the cat sat on the mat . the cat ▌          match 2 ("the cat"), source: "sat"
//         └──────┘  └ source      └──────┘
// Sources: Saxena's prompt lookup decoding (2023); vLLM's v1/spec_decode/ngram_proposer.py; zlib's hash chains.

/** Fewer tokens in common say next to nothing: in prose two recur by chance at every turn. */
export const MIN_MATCH = 3;
/** Earlier places that one search compares; the latest first. */
const MAX_CANDIDATES = 16;
/** A match is compared no further back than this. */
export const MAX_MATCH = 64;
/** Positions that can be found; what is further back is forgotten. A power of two. */
export const WINDOW = 2 ** 15;

/** Smallest power of two that is not below `n`, within WINDOW. */
function sizeFor(n: number): number {
  let size = 64;
  while (size < n && size < WINDOW) size *= 2;
  return size;
}

export class NgramIndex {
  /** Latest position behind tokens of a hash; -1: none. */
  readonly #latest: Int32Array;
  /** The position before it with the same hash, [position mod size]. */
  readonly #before: Int32Array;
  readonly #mask: number;
  #length = 0;
  /** Position of what followed the match, and its tokens; 0: there is none. */
  source = 0;
  matched = 0;

  /** `mostTokens`: what the text never has more than. */
  constructor(mostTokens: number) {
    const size = sizeFor(mostTokens);
    this.#latest = new Int32Array(size).fill(-1);
    this.#before = new Int32Array(size);
    this.#mask = size - 1;
  }

  get length(): number {
    return this.#length;
  }

  /** Takes in the next token of the text: tokens[length]. */
  push(tokens: Int32Array): void {
    const continued = this.matched > 0 && tokens[this.source] === tokens[this.#length];
    this.#length += 1;
    if (this.#length < MIN_MATCH) return;
    const slot = this.#slot(tokens);
    const found = this.#latest[slot]!;
    if (continued) {
      this.source += 1;
      this.matched = Math.min(this.matched + 1, MAX_MATCH);
    } else this.#search(tokens, found);
    this.#latest[slot] = this.#length;
    this.#before[this.#length & this.#mask] = found;
  }

  /** Whether a position is still in the window; in a chain, older entries have been written over. */
  #reachable(position: number): boolean {
    return position > 0 && this.#length - position <= this.#mask;
  }

  #search(tokens: Int32Array, first: number): void {
    this.source = 0;
    this.matched = 0;
    let place = first;
    for (let i = 0; i < MAX_CANDIDATES && this.#reachable(place); i++) {
      const matched = this.#common(tokens, place);
      if (matched >= MIN_MATCH && matched > this.matched) {
        this.matched = matched;
        this.source = place;
        if (matched === MAX_MATCH) return;
      }
      const next = this.#before[place & this.#mask]!;
      if (next >= place) return;
      place = next;
    }
  }

  /** Tokens that the text before `place` and its end have in common. */
  #common(tokens: Int32Array, place: number): number {
    const most = Math.min(MAX_MATCH, place);
    let count = 0;
    while (count < most && tokens[place - 1 - count] === tokens[this.#length - 1 - count]) count += 1;
    return count;
  }

  /** Of the last MIN_MATCH tokens. */
  #slot(tokens: Int32Array): number {
    let hash = 0;
    for (let i = 1; i <= MIN_MATCH; i++) hash = Math.imul(hash ^ tokens[this.#length - i]!, 0x9e3779b1);
    return (hash ^ (hash >>> 15)) & this.#mask;
  }
}
