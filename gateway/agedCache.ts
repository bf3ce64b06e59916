// What is kept for so long by the clock that is given, and looked at when it is asked for: no timer. One that a cache sets dies on Workers with the request
// that set it, and what would have made entries stale with it.
import { LRUCache } from 'lru-cache';
import type { Clock } from './clock.ts';

export class AgedCache<V> {
  readonly #entries: LRUCache<string, { value: V; fromMs: number }>;
  readonly #validMs: number;
  readonly #clock: Pick<Clock, 'now'>;

  /** At most `max` entries, of which the least recently used go first. */
  constructor(max: number, validMs: number, clock: Pick<Clock, 'now'>) {
    this.#entries = new LRUCache({ max });
    this.#validMs = validMs;
    this.#clock = clock;
  }

  /** undefined: not kept, or kept for too long; also where the clock has stepped back behind it. */
  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const ageMs = this.#clock.now() - entry.fromMs;
    return ageMs >= 0 && ageMs < this.#validMs ? entry.value : undefined;
  }

  set(key: string, value: V): void {
    this.#entries.set(key, { value, fromMs: this.#clock.now() });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
