// Between what the engine wishes for a row of logits and the words that sampling kernels read and write (wgsl/sample/row.ts).
import {
  ADJUSTMENT_WORDS,
  MAX_TOP,
  RESULT,
  ROW,
  ROW_WORDS,
  type RowInstructions,
  type Words,
  writeRow,
} from '../wgsl/sample/row.ts';
import { invariant } from './invariant.ts';
import { positionLogprob } from './logprobs.ts';
import type { RowAnswer, RowWish, StepChunk } from './modelRunner.ts';

/** Where the rows of one step are written. */
export interface RowMemory {
  words: Words;
  /** First word of the rows. */
  rowsAt: number;
  /** Adjustments are counted in words from here, and written from `adjustAt` on up to the end of `words`. */
  adjustBase: number;
  adjustAt: number;
}

const NOTHING_AHEAD = new Int32Array(0);

/** Writes one row after the other; says what they need together. */
export class RowWriter {
  readonly #vocabSize: number;
  #memory: RowMemory;
  #rows = 0;
  #kept = 0;
  /** The flags of all rows. */
  flags = 0;

  constructor(vocabSize: number, memory: RowMemory) {
    this.#vocabSize = vocabSize;
    this.#memory = memory;
  }

  /** First word behind the adjustments. */
  get end(): number {
    return this.#memory.adjustAt;
  }

  /** null: nothing is done with the row. */
  write(wish: RowWish | null): void {
    const { words, rowsAt, adjustBase, adjustAt } = this.#memory;
    const at = rowsAt + this.#rows * ROW_WORDS;
    this.#rows += 1;
    if (!wish) {
      words.u32[at + ROW.flags] = 0;
      return;
    }
    const place = { adjustAt: adjustAt - adjustBase, keptAt: this.#kept };
    if (wish.kind === 'score') {
      const row = { draw: null, given: wish.id, top: wish.alternatives, slot: null, pending: null, adjustments: 0 };
      this.#row(at, { ...row, ...place });
      return;
    }
    const { sampling, noise, adjustments, ahead = NOTHING_AHEAD, logprobs, slot, pending } = wish;
    const count = adjustments?.sizeWith(ahead) ?? 0;
    invariant(adjustAt + count * ADJUSTMENT_WORDS <= words.u32.length, 'there is room for the adjustments', { count });
    adjustments?.write(words.u32, adjustAt, ahead);
    this.#row(at, {
      draw: { ...sampling, noise },
      given: 0,
      top: logprobs,
      slot,
      pending: pending && adjustments?.penalises ? slot : null,
      adjustments: count,
      ...place,
    });
    this.#memory.adjustAt += count * ADJUSTMENT_WORDS;
    // One more for a pending token that none of them is.
    this.#kept += count + 1;
  }

  #row(at: number, row: RowInstructions): void {
    const { words } = this.#memory;
    invariant((row.top ?? 0) <= MAX_TOP, 'no more alternatives than an answer has room for', { top: row.top ?? 0 });
    writeRow(words, at, row, this.#vocabSize);
    this.flags |= words.u32[at + ROW.flags]!;
  }
}

/** What is wished for each wanted row of a step; null: its logits. */
export function wishesOf(chunks: readonly StepChunk[]): (RowWish | null)[] {
  return chunks.flatMap(({ logitsFor, wishes }) => {
    invariant(!wishes || wishes.length === logitsFor.length, 'each wanted row has its wish');
    return logitsFor.map((_, i) => wishes?.[i] ?? null);
  });
}

/** Reads one row's answer, RESULT_WORDS words. */
export function readAnswer(answer: Uint32Array, wish: RowWish, vocabSize: number): RowAnswer {
  if (answer[RESULT.valid] === 0) return { id: null, logprob: null };
  const top = wish.kind === 'score' ? wish.alternatives : wish.logprobs;
  return { id: answer[RESULT.id]!, logprob: top === null ? null : positionLogprob(answer, Math.min(top, vocabSize)) };
}
