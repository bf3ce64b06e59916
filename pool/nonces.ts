// Remembers the nonces of signed requests for as long as their time would still be accepted, so that none works twice. Bounded:
// when it is full it refuses instead of forgetting, since forgetting would reopen the door to a replay. Only requests whose
// signature held are remembered, so a stranger can't fill it.
import { MAX_CLOCK_SKEW_MS } from './wire/signing.ts';

/** A signed time is accepted from skew before to skew after our clock, so a nonce can come back for twice the skew. */
const RETENTION_MS = 2 * MAX_CLOCK_SKEW_MS;

/** About 20 MB of memory at worst; 3300 requests a second kept up for a minute. */
export const MAX_NONCES = 200_000;

export type NonceVerdict = 'fresh' | 'replayed' | 'full';

export class NonceMemory {
  readonly #seen = new Map<string, number>();
  readonly #capacity: number;

  constructor(capacity: number = MAX_NONCES) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#seen.size;
  }

  /** Remembers the nonce when it is fresh. `nowMs` must not go backwards by more than the clock does. */
  admit(keyId: string, nonce: string, nowMs: number): NonceVerdict {
    for (const [old, seenAtMs] of this.#seen) {
      if (nowMs - seenAtMs <= RETENTION_MS) break;
      this.#seen.delete(old);
    }
    const name = `${keyId}\n${nonce}`;
    if (this.#seen.has(name)) return 'replayed';
    if (this.#seen.size >= this.#capacity) return 'full';
    this.#seen.set(name, nowMs);
    return 'fresh';
  }
}
