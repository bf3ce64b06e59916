// How fast the engine is, as measured lately: what a retry time and the choice between loading and computing are derived from. Means of
// tokens over means of time, so that a short step counts no more than its time.
import { Smoothed } from './smoothed.ts';

class Ratio {
  readonly #above = new Smoothed();
  readonly #below = new Smoothed();

  note(above: number, below: number): void {
    this.#above.note(above);
    this.#below.note(below);
  }

  /** 0 before the first measurement. */
  get value(): number {
    return this.#below.value ? (this.#above.value ?? 0) / this.#below.value : 0;
  }
}

export class StepRates {
  readonly #steps = new Ratio();
  readonly #prefill = new Ratio();
  readonly #ends = new Ratio();

  /** A step that computed `tokens`, `decodes` of them one by one for their sequences, in `elapsedMs`. */
  step(tokens: number, decodes: number, elapsedMs: number): void {
    if (tokens === 0 || elapsedMs <= 0) return;
    this.#steps.note(tokens, elapsedMs);
    // A step that is mostly decodes says little about prompts: its time is that of reading the weights once.
    if (decodes * 2 < tokens) this.#prefill.note(tokens, elapsedMs);
  }

  /** A sequence ended that weighed `queued` tokens when it was taken and needed `computed`: caches and early ends make that less. */
  ended(queued: number, computed: number): void {
    if (computed > 0) this.#ends.note(queued, computed);
  }

  /** Prompt tokens computed per millisecond; 0: not known yet. */
  get prefillTokensPerMs(): number {
    return this.#prefill.value;
  }

  /** Tokens per millisecond by which a full queue empties, in the weights of `queueTokens`; 0: not known yet. */
  get drainTokensPerMs(): number {
    return this.#steps.value * (this.#ends.value || 1);
  }
}
