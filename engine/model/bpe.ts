// Byte-pair encoding, as the library's model step: in each word the lowest-ranked pair is merged first, the leftmost of equals, until no
// pair has a rank.
//
// The library's own merging isn't used: it looks pairs up by JSON text (4 s for a megabyte without a space, on the thread that serves
// everybody) and remembers words across tenants, whose timing would tell. This one takes n log n time in typed arrays, a tenth of that,
// and remembers nothing. The tests hold the two against each other.
import { Model } from '@huggingface/tokenizers';
import { ALPHABET_END, characterOfByte } from './byteLevel.ts';
import { ModelFileError } from './errors.ts';
import { producibleId, type Vocabulary } from './vocabulary.ts';

/** Scratch of this many bytes is kept between words; longer words get their own. */
const KEPT_SCRATCH_BYTES = 16_384;
/** Heap keys are rank × 2^31 + position: exact while ranks stay below 2^21, which MAX_ARRAY_LENGTH of the file grants. */
const RANK_UNIT = 2 ** 31;

/** A byte that the vocabulary can't write: it separates its neighbours and is dropped, as in llama.cpp and tokenizers. SmolLM2 lacks 22. */
const NO_TOKEN = -1;

/** One word's state, as parallel arrays by byte position. */
interface Scratch {
  ids: Int32Array;
  next: Int32Array;
  previous: Int32Array;
  /** Rank of the pair that starts here, or -1. */
  pairRank: Int32Array;
  heap: Float64Array;
}

function scratchFor(bytes: number): Scratch {
  const column = () => new Int32Array(bytes);
  // Each of the n - 1 first pairs and two per merge: under 3 n entries.
  return { ids: column(), next: column(), previous: column(), pairRank: column(), heap: new Float64Array(3 * bytes) };
}

export class Bpe extends Model {
  readonly #vocabulary: Vocabulary;
  readonly #wholeWords: boolean;
  /** Id of each character of the byte alphabet. */
  readonly #characterIds = new Int32Array(ALPHABET_END).fill(NO_TOKEN);
  /** left id × vocabulary + right id → rank. */
  readonly #ranks = new Map<number, number>();
  readonly #merged: Int32Array;
  readonly #kept = scratchFor(KEPT_SCRATCH_BYTES);
  #heapSize = 0;

  /**
   * `merges`: "left right" in the byte alphabet, best first. `wholeWords`: a word that is a token is taken as it is.
   * Throws ModelFileError when a printable ASCII character or a merge's part has no token.
   */
  constructor(vocabulary: Vocabulary, merges: readonly string[], wholeWords: boolean) {
    super({ type: 'BPE', vocab: {}, merges: [], ignore_merges: wholeWords });
    this.vocab = vocabulary.tokens;
    this.tokens_to_ids = vocabulary.ids;
    this.#vocabulary = vocabulary;
    this.#wholeWords = wholeWords;
    for (let byte = 0; byte < 256; byte++) {
      const character = characterOfByte(byte);
      const id = producibleId(vocabulary, character);
      if (id !== undefined) this.#characterIds[character.charCodeAt(0)] = id;
      else if (byte >= 0x20 && byte < 0x7f)
        throw new ModelFileError(
          'unsupported',
          `tokenizer.ggml.tokens has no token for the character ${JSON.stringify(String.fromCharCode(byte))}; byte-level BPE needs one for all of printable ASCII`,
        );
    }
    this.#merged = new Int32Array(merges.length);
    for (const [rank, merge] of merges.entries()) {
      const space = merge.indexOf(' ', 1);
      const [left, right] = [merge.slice(0, Math.max(space, 0)), merge.slice(space + 1)];
      const leftId = producibleId(vocabulary, left);
      const rightId = producibleId(vocabulary, right);
      const mergedId = producibleId(vocabulary, left + right);
      if (leftId === undefined || rightId === undefined || mergedId === undefined)
        throw new ModelFileError(
          'malformed',
          `tokenizer.ggml.merges[${rank}] is ${JSON.stringify(merge.slice(0, 80))}: "left right" is needed, both and their union tokens`,
        );
      const pair = leftId * vocabulary.size + rightId;
      if (!this.#ranks.has(pair)) this.#ranks.set(pair, rank);
      this.#merged[rank] = mergedId;
    }
  }

  /** Words in the byte alphabet to tokens. */
  override encode(words: string[]): string[] {
    const tokens: string[] = [];
    for (const word of words)
      if (this.#wholeWords && producibleId(this.#vocabulary, word) !== undefined) tokens.push(word);
      else this.#encodeWord(word, tokens);
    return tokens;
  }

  #encodeWord(word: string, tokens: string[]): void {
    const { length } = word;
    if (length === 1) {
      const id = this.#characterIds[word.charCodeAt(0)]!;
      if (id !== NO_TOKEN) tokens.push(this.vocab[id]!);
      return;
    }
    const scratch = length <= KEPT_SCRATCH_BYTES ? this.#kept : scratchFor(length);
    const { ids, next, previous, pairRank, heap } = scratch;
    for (let i = 0; i < length; i++) {
      ids[i] = this.#characterIds[word.charCodeAt(i)]!;
      previous[i] = i - 1;
      next[i] = i + 1 < length ? i + 1 : -1;
    }
    this.#heapSize = 0;
    for (let i = 0; i < length; i++) this.#rankPair(scratch, i);

    //   previous   left   right   after          previous   left(merged)   after
    //       └──p──┘  └─best─┘ └──?──┘      →         └───new────┘ └───new───┘
    while (this.#heapSize > 0) {
      const key = this.#pop(heap);
      const rank = Math.floor(key / RANK_UNIT);
      const left = key - rank * RANK_UNIT;
      if (pairRank[left] !== rank) continue;
      const right = next[left]!;
      const after = next[right]!;
      ids[left] = this.#merged[rank]!;
      next[left] = after;
      if (after >= 0) previous[after] = left;
      pairRank[right] = -1;
      this.#rankPair(scratch, left);
      if (previous[left]! >= 0) this.#rankPair(scratch, previous[left]!);
    }
    for (let i = 0; i >= 0; i = next[i]!) if (ids[i] !== NO_TOKEN) tokens.push(this.vocab[ids[i]!]!);
  }

  /** Ranks the pair that starts at `left` anew and queues it. */
  #rankPair({ ids, next, pairRank, heap }: Scratch, left: number): void {
    const right = next[left]!;
    const ranked = right >= 0 && ids[left] !== NO_TOKEN && ids[right] !== NO_TOKEN;
    const rank = ranked ? this.#ranks.get(ids[left]! * this.#vocabulary.size + ids[right]!) : undefined;
    pairRank[left] = rank ?? -1;
    if (rank !== undefined) this.#push(heap, rank * RANK_UNIT + left);
  }

  #push(heap: Float64Array, key: number): void {
    let at = this.#heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = key;
  }

  #pop(heap: Float64Array): number {
    const top = heap[0]!;
    const key = heap[--this.#heapSize]!;
    const size = this.#heapSize;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= key) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = key;
    return top;
  }
}
