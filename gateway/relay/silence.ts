// Tells a stream that says nothing for long from one that goes on: proxies and clients take a silent connection for a dead one. One timer
// per stream looks now and then; nothing is done per event but to remember when it came.
import type { Clock } from '../clock.ts';

export class Silence {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #stopped = new AbortController();
  #saidMs: number;
  #wake: (() => void) | null = null;

  constructor(clock: Clock, everyMs: number) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#saidMs = clock.now();
    void this.#watch();
  }

  /** What comes of `next`; null when nothing was said for `everyMs` to twice that, and `next` is still to be waited for. */
  async or<T>(next: Promise<T>): Promise<T | null> {
    const got = await new Promise<T | null>((resolve, reject) => {
      this.#wake = () => resolve(null);
      next.then(resolve, reject);
    });
    this.#wake = null;
    this.#saidMs = this.#clock.now();
    return got;
  }

  stop(): void {
    this.#stopped.abort('stopped');
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.#clock.sleep(this.#everyMs, signal);
      if (this.#clock.now() - this.#saidMs >= this.#everyMs) this.#wake?.();
    }
  }
}
