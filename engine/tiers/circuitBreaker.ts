// Stops trying what keeps failing: after some failures in a row it opens for a while, lets one attempt through, and doubles the while
// as long as that fails, too. Pure; time comes in.

/** One bad block or one full moment is no reason to stop. */
const FAILURES_TO_OPEN = 3;
const FIRST_PAUSE_MS = 1000;
/** A disk that was full for an hour is looked at every five minutes. */
const MAX_PAUSE_MS = 300_000;

export class CircuitBreaker {
  #failures = 0;
  #pauseMs = 0;
  #openUntilMs = Number.NEGATIVE_INFINITY;

  /** Whether attempts are held back at `nowMs`. */
  isOpen(nowMs: number): boolean {
    // Before the pause began only a clock that was set back can be: then nobody knows how long it is, and one attempt costs little.
    return nowMs < this.#openUntilMs && nowMs >= this.#openUntilMs - this.#pauseMs;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#pauseMs = 0;
  }

  /** True when this failure was the one that opened it after it had worked: worth telling, once. */
  failed(nowMs: number): boolean {
    this.#failures += 1;
    if (this.#failures < FAILURES_TO_OPEN) return false;
    const first = this.#pauseMs === 0;
    this.#pauseMs = first ? FIRST_PAUSE_MS : Math.min(2 * this.#pauseMs, MAX_PAUSE_MS);
    this.#openUntilMs = nowMs + this.#pauseMs;
    return first;
  }
}
