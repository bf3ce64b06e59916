// The tokens of one sequence whose logits are not taken as they are: those with a bias, and those seen, for the penalties. Kept packed as
// the kernels read them, so that a step costs a copy. Semantics are vLLM's: repetition counts prompt and output, frequency and
// presence output alone.
import { ADJUSTMENT_WORDS, NOT_SEEN, type Words } from '../wgsl/sample/row.ts';
import type { SamplingParams } from './request.ts';

export class LogitAdjustments {
  /** Whether drawn tokens are counted. */
  readonly penalises: boolean;
  readonly #places = new Map<number, number>();
  #words: Words = wordsOf(64 * ADJUSTMENT_WORDS);

  /** `prompt`: ids that count as seen, for the repetition penalty. */
  constructor(params: SamplingParams, prompt: Int32Array) {
    const { logitBias, repetitionPenalty } = params;
    this.penalises = penalises(params);
    for (const [id, bias] of logitBias) this.#words.f32[this.#place(id) + 2]! += bias;
    if (repetitionPenalty !== 1) for (const id of prompt) this.#words.u32[this.#place(id) + 1] = 0;
  }

  /** Distinct tokens. */
  get size(): number {
    return this.#places.size;
  }

  /** Counts a drawn token. */
  add(id: number): void {
    if (!this.penalises) return;
    const at = this.#place(id) + 1;
    this.#words.u32[at] = counted(this.#words.u32[at]!);
  }

  /** Distinct tokens once those of `ahead` are counted, too. */
  sizeWith(ahead: Int32Array): number {
    return this.size + this.#newOf(ahead).length;
  }

  /** Writes ADJUSTMENT_WORDS words per distinct token, with those of `ahead` counted as if they had been added. */
  write(to: Uint32Array, at: number, ahead: Int32Array): void {
    to.set(this.#words.u32.subarray(0, this.size * ADJUSTMENT_WORDS), at);
    const fresh = this.#newOf(ahead);
    for (const [i, id] of fresh.entries()) to.set([id, NOT_SEEN, 0], at + (this.size + i) * ADJUSTMENT_WORDS);
    if (!this.penalises) return;
    for (const id of ahead) {
      const place = this.#places.get(id) ?? (this.size + fresh.indexOf(id)) * ADJUSTMENT_WORDS;
      to[at + place + 1] = counted(to[at + place + 1]!);
    }
  }

  /** Distinct tokens of `ahead` that have no place yet and would be given one. */
  #newOf(ahead: Int32Array): number[] {
    return this.penalises ? [...new Set(ahead)].filter((id) => !this.#places.has(id)) : [];
  }

  #place(id: number): number {
    let place = this.#places.get(id);
    if (place === undefined) {
      place = this.size * ADJUSTMENT_WORDS;
      this.#places.set(id, place);
      if (place === this.#words.u32.length) {
        const grown = wordsOf(place * 2);
        grown.u32.set(this.#words.u32);
        this.#words = grown;
      }
      this.#words.u32[place] = id;
      this.#words.u32[place + 1] = NOT_SEEN;
    }
    return place;
  }
}

/** null: every logit is taken as it is. */
export function adjustmentsOf(params: SamplingParams, prompt: Int32Array): LogitAdjustments | null {
  return params.logitBias.length > 0 || penalises(params) ? new LogitAdjustments(params, prompt) : null;
}

/** The count of a token that was drawn once more. */
function counted(count: number): number {
  return count === NOT_SEEN ? 1 : count + 1;
}

function penalises(params: SamplingParams): boolean {
  return params.repetitionPenalty !== 1 || params.frequencyPenalty !== 0 || params.presencePenalty !== 0;
}

function wordsOf(length: number): Words {
  const u32 = new Uint32Array(length);
  return { u32, f32: new Float32Array(u32.buffer) };
}
