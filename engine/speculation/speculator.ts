// Brings drafts into planned steps: asks the drafters of the sequences that decode, chooses how many of their guesses are worth their rows,
// and puts these behind the decodes. What a draft does not cost: a token or a row that a decode or a prompt could use (it takes
// what is left), a block that somebody else waits for (`room` says what there is), anybody's bits.

import type { Sequence } from '../sequence.ts';
import type { PlannedChunk, StepLimits } from '../stepPlan.ts';
import { chooseDrafts, type DraftOffer } from './chooseDrafts.ts';
import type { SpeculationOptions } from './drafter.ts';
import { StepCosts } from './stepCosts.ts';

interface Offer extends DraftOffer {
  ids: Int32Array;
}

export class Speculator {
  readonly #options: SpeculationOptions;
  readonly #limits: StepLimits;
  readonly #costs: StepCosts;
  /** Used anew in each step; at most one per running sequence. */
  readonly #offers: Offer[] = [];

  constructor(options: SpeculationOptions, limits: StepLimits) {
    this.#options = options;
    this.#limits = limits;
    this.#costs = new StepCosts(limits.maxStepLogits);
  }

  /** What a step took, of which `rows` of its tokens had their logits wanted. */
  noteStep(tokens: number, rows: number, elapsedMs: number): void {
    this.#costs.note(tokens, rows, elapsedMs);
  }

  /** Adds drafts to a step's chunks. `room`: of so many drafts of a sequence, how many have blocks, which it then has. */
  extend(chunks: readonly PlannedChunk[], room: (sequence: Sequence, drafts: number) => number): void {
    // Decodes of a known token, of whom no other step is in flight.
    const drafting = chunks.filter(
      ({ sequence, start, count, draws }) =>
        draws && count === 1 && start + 1 === sequence.length && start === sequence.computed,
    );
    if (drafting.length === 0) return;
    let tokens = 0;
    let rows = 0;
    for (const chunk of chunks) {
      tokens += chunk.count;
      rows += chunk.rows.length;
    }
    const counts = this.#choose(
      drafting.map(({ sequence }) => sequence),
      tokens,
      rows,
    );
    for (const [i, chunk] of drafting.entries()) {
      const count = counts[i] ? room(chunk.sequence, counts[i]) : 0;
      if (count === 0) continue;
      chunk.draft = this.#offers[i]!.ids.slice(0, count);
      chunk.count += count;
      chunk.rows = Array.from({ length: count + 1 }, (_, offset) => offset);
      chunk.sequence.drafted = count;
    }
  }

  /**
   * Whether planning ahead of a step in flight would cost more than it gains: drafts begin at a known token, and somebody whose last one
   * is still being drawn is likely to draft.
   */
  shouldWait(running: readonly Sequence[]): boolean {
    const decoding = running.filter(({ state, drawn }) => state === 'running' && drawn > 0);
    if (decoding.length === 0) return false;
    return this.#choose(decoding, decoding.length, decoding.length).some((count) => count > 0);
  }

  #choose(sequences: readonly Sequence[], tokens: number, rows: number): number[] {
    const { maxStepTokens, maxStepLogits } = this.#limits;
    const most = Math.min(maxStepTokens - tokens, maxStepLogits - rows);
    if (most <= 0) return [];
    const offers = sequences.map((sequence, i) => this.#offer(sequence, i, most));
    if (offers.every(({ count }) => count === 0)) return [];
    const shape = { tokens, rows, otherMs: this.#costs.promptMs(tokens - rows), most };
    return chooseDrafts(offers, shape, (rows) => this.#costs.ms(rows));
  }

  #offer(sequence: Sequence, place: number, most: number): Offer {
    const { open, maxDraftTokens } = this.#options;
    const { tokens, length, promptLength, outputLength, request } = sequence;
    this.#offers[place] ??= {
      count: 0,
      ids: new Int32Array(maxDraftTokens),
      chances: new Float64Array(maxDraftTokens),
    };
    const offer = this.#offers[place];
    // The last output position needs no draft: it is drawn behind the one before.
    const wanted = Math.min(most, maxDraftTokens, request.maxTokens - outputLength - 1);
    sequence.drafter ??= open(promptLength, tokens.length);
    offer.count = wanted > 0 ? sequence.drafter.draft(tokens, length, wanted, offer.ids, offer.chances) : 0;
    return offer;
  }
}
