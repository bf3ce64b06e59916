// Repetition, frequency and presence penalties with vLLM's semantics and order: repetition counts prompt and output, the other two
// output alone. Kept per sequence as counts, so that a position costs only the distinct tokens seen.
import type { SamplingParams } from './request.ts';

export class TokenCounts {
  /** Times that an id was generated; 0 for an id that only the prompt has. */
  readonly #counts = new Map<number, number>();

  /** `prompt`: ids that count as seen, for the repetition penalty. */
  constructor(prompt: Int32Array) {
    for (const id of prompt) this.#counts.set(id, 0);
  }

  add(id: number): void {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /** Changes logits in place, [vocabSize]. */
  penalise(logits: Float32Array, params: SamplingParams): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = params;
    for (const [id, count] of this.#counts) {
      let logit = logits[id]!;
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      if (count > 0) logit -= count * frequencyPenalty + presencePenalty;
      logits[id] = logit;
    }
  }
}

/** Whether a sequence needs counts at all. */
export function penalises(params: SamplingParams): boolean {
  return params.repetitionPenalty !== 1 || params.frequencyPenalty !== 0 || params.presencePenalty !== 0;
}
