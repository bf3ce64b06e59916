// A drafter that knows how sequences go on, and errs or keeps silent where it is told to: drafts accepted whole, in part and not at all, at
// will.
import type { Drafter } from '../../engine/speculation/drafter.ts';

export class OracleDrafter implements Drafter {
  readonly #texts: readonly (readonly number[])[];
  readonly #errs: () => boolean;
  readonly #silent: () => boolean;

  /** `texts`: prompt and output of sequences; the first that begins like a sequence is what it guesses from. */
  constructor(texts: readonly (readonly number[])[], errs: () => boolean, silent: () => boolean = () => false) {
    this.#texts = texts;
    this.#errs = errs;
    this.#silent = silent;
  }

  draft(tokens: Int32Array, length: number, most: number, ids: Int32Array, chances: Float64Array): number {
    if (this.#silent()) return 0;
    const known = tokens.subarray(0, length);
    const text = this.#texts.find((one) => one.length > length && known.every((id, i) => id === one[i]));
    if (!text) return 0;
    const count = Math.min(most, text.length - length);
    for (let i = 0; i < count; i++) {
      const right = text[length + i]!;
      ids[i] = this.#errs() ? right ^ 1 : right;
      chances[i] = 0.9;
    }
    return count;
  }
}
