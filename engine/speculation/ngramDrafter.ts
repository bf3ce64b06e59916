// Prompt lookup: where the end of a sequence occurred before in its prompt or output, what followed there is the guess. Edits, quotations,
// code and structured answers repeat themselves; where nothing does there is no match, and no draft.
import type { Drafter, SpeculationOptions } from './drafter.ts';
import { HitRates } from './hitRates.ts';
import { NgramIndex } from './ngramIndex.ts';

/** A guess that is less likely than this to be reached and drawn is not worth weighing. */
const MIN_REACH = 0.05;

/** Prompt lookup for every sequence of an engine. */
export function ngramSpeculation(maxDraftTokens: number): SpeculationOptions {
  return { open: (promptLength, mostTokens) => new NgramDrafter(promptLength, mostTokens), maxDraftTokens };
}

export class NgramDrafter implements Drafter {
  readonly #index: NgramIndex;
  readonly #rates = new HitRates();
  readonly #promptLength: number;

  constructor(promptLength: number, mostTokens: number) {
    this.#promptLength = promptLength;
    this.#index = new NgramIndex(mostTokens);
  }

  draft(tokens: Int32Array, length: number, most: number, ids: Int32Array, chances: Float64Array): number {
    this.#follow(tokens, length);
    const { source, matched } = this.#index;
    if (matched === 0) return 0;
    let reach = 1;
    let count = 0;
    for (; count < most; count++) {
      const chance = this.#rates.rate(matched + count);
      reach *= chance;
      if (reach < MIN_REACH) break;
      // A source that runs into the end goes on with what is drafted from it: the text repeats itself with that period.
      const from = source + count;
      ids[count] = from < length ? tokens[from]! : ids[from - length]!;
      chances[count] = chance;
    }
    return count;
  }

  /** Takes in what has become known, and what it says of the matches: of the output alone, as a prompt is nobody's guess. */
  #follow(tokens: Int32Array, length: number): void {
    const index = this.#index;
    while (index.length < length) {
      const { source, matched, length: at } = index;
      if (matched > 0 && at >= this.#promptLength) this.#rates.note(matched, tokens[source] === tokens[at]);
      index.push(tokens);
    }
  }
}
