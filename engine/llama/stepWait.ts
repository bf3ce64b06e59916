// While a promise of the GPU is pending, Dawn's bindings keep this thread busy asking for it. On a software adapter that takes the very
// core that computes: so most of a step is slept through first, by what steps of the same size took (a decode step: 15 % less time).

/** Share of the expected time that is slept: the rest covers a step that is faster than any before. */
const SLEPT_SHARE = 0.8;
/** Steps shorter than this are not worth a timer. */
const MIN_STEP_MS = 4;
/** Sizes that are remembered: tokens × wanted rows of a small pool; the oldest goes. */
const MAX_SIZES = 256;
/** How far an expectation may drift up again per step: a machine that was faster once need not be so for ever. */
const DRIFT = 1.02;

export class StepWait {
  readonly #fastestMs = new Map<string, number>();

  /** Milliseconds to sleep before waiting for a step of this size. */
  sleepMs(tokens: number, wanted: number): number {
    const expectedMs = this.#fastestMs.get(`${tokens}/${wanted}`) ?? 0;
    return expectedMs < MIN_STEP_MS ? 0 : Math.floor(expectedMs * SLEPT_SHARE);
  }

  /** A step of this size took so long, from submission to result. */
  note(tokens: number, wanted: number, elapsedMs: number): void {
    const size = `${tokens}/${wanted}`;
    const before = this.#fastestMs.get(size);
    this.#fastestMs.delete(size);
    this.#fastestMs.set(size, before === undefined ? elapsedMs : Math.min(elapsedMs, before * DRIFT));
    const oldest = this.#fastestMs.size > MAX_SIZES ? this.#fastestMs.keys().next().value : undefined;
    if (oldest !== undefined) this.#fastestMs.delete(oldest);
  }
}
