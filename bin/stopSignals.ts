// One wish to stop reaches a process several times: the terminal signals the whole group, npm and the launcher each pass it on. So what
// comes within a moment of the first counts as the first; what comes later means: now. Pure; the caller wires signals and clock.

/** Longer than npm and the launcher take to pass a signal on, also on a busy machine; shorter than patience. */
const SAME_WISH_MS = 1500;

export type StopWish = 'stop' | 'kill' | 'same';

export class StopSignals {
  #firstAtMs: number | null = null;

  get stopping(): boolean {
    return this.#firstAtMs !== null;
  }

  /** A signal at `nowMs`: what is to be done about it. */
  note(nowMs: number): StopWish {
    if (this.#firstAtMs === null) {
      this.#firstAtMs = nowMs;
      return 'stop';
    }
    return nowMs - this.#firstAtMs < SAME_WISH_MS ? 'same' : 'kill';
  }
}
