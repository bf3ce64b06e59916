// A circuit breaker per pool: one that answers its status and yet fails what it is given is left alone for a while, then given one request to
// try; if that succeeds it is back. Pure state: the clock is the caller's. (Nygard, Release It!; Envoy's outlier detection.)
//
//   closed ──half of the last requests failed──▶ open ──pause──▶ trying ──success──▶ closed
//                                                  ▲──────twice the pause────failure──┘

/** Outcomes that are looked at, the newest; fewer than LEAST say nothing. */
const WINDOW = 20;
const LEAST = 5;
/** Older ones say nothing about now. */
const WINDOW_MS = 30_000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** A trial that nobody heard of is over. */
const TRIAL_MS = 10_000;

export class Breaker {
  #outcomes: { atMs: number; failed: boolean }[] = [];
  #openUntilMs: number | null = null;
  #pauseMs = FIRST_PAUSE_MS;
  #trialUntilMs = Number.NEGATIVE_INFINITY;

  /** Whether it may be given a request now. */
  closed(nowMs: number): boolean {
    if (this.#openUntilMs === null) return true;
    return nowMs >= this.#openUntilMs && nowMs >= this.#trialUntilMs;
  }

  /** It is given one: a trial, unless it is a begun stream's last resort while the pause lasts. */
  given(nowMs: number): void {
    if (this.#openUntilMs !== null && nowMs >= this.#openUntilMs) this.#trialUntilMs = nowMs + TRIAL_MS;
  }

  succeeded(nowMs: number): void {
    if (this.#openUntilMs === null) this.#note(nowMs, false);
    else if (nowMs >= this.#openUntilMs) this.reset(); // otherwise it was begun before it opened
  }

  failed(nowMs: number): void {
    if (this.#openUntilMs !== null) {
      if (nowMs >= this.#openUntilMs) this.#open(nowMs, Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2));
      return;
    }
    this.#note(nowMs, true);
    const failures = this.#outcomes.filter(({ failed }) => failed).length;
    if (this.#outcomes.length >= LEAST && failures * 2 >= this.#outcomes.length) this.#open(nowMs, this.#pauseMs);
  }

  /** Another process has its place. */
  reset(): void {
    this.#outcomes = [];
    this.#openUntilMs = null;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  #open(nowMs: number, pauseMs: number): void {
    this.#pauseMs = pauseMs;
    this.#openUntilMs = nowMs + pauseMs;
    this.#trialUntilMs = Number.NEGATIVE_INFINITY;
  }

  #note(atMs: number, failed: boolean): void {
    this.#outcomes.push({ atMs, failed });
    if (this.#outcomes.length > WINDOW) this.#outcomes.shift();
    this.#outcomes = this.#outcomes.filter((outcome) => atMs - outcome.atMs <= WINDOW_MS);
  }
}
