// Keeps an isolate's picture of its pools fresh without a loop: an isolate has no time of its own, only that of its requests. A request asks
// the pools whose status has aged, and waits for the answer only where nothing valid is known. No request waits for another's promise, which
// may die with it: what they share is plain data.
import type { Clock } from '../clock.ts';
import { isReady, type PoolRegistry, type PoolState } from '../relay/poolRegistry.ts';

/** A status is asked for again when it is older. Well below the age at which it says nothing any more. */
const REFRESH_AFTER_MS = 2000;
/** A question that has taken so long is asked again by somebody else. */
const ASKING_MS = 2000;
/** Waiting for a status that another request asks for. */
const WAIT_STEP_MS = 20;
const MAX_BACKOFF_MS = 10_000;

export class PoolWatch {
  readonly #registry: PoolRegistry;
  readonly #clock: Clock;

  constructor(registry: PoolRegistry, clock: Clock) {
    this.#registry = registry;
    this.#clock = clock;
  }

  /** Resolves when each pool has a valid status, or has just failed to give one. `later` goes on beside the request. */
  async fresh(later: (work: Promise<unknown>) => void): Promise<void> {
    await Promise.all(this.#registry.pools.map((pool) => this.#freshen(pool, later)));
  }

  async #freshen(pool: PoolState, later: (work: Promise<unknown>) => void): Promise<void> {
    const startedAtMs = this.#clock.now();
    for (;;) {
      const nowMs = this.#clock.now();
      const ready = isReady(pool, nowMs);
      if (ready && nowMs - pool.statusAtMs <= REFRESH_AFTER_MS) return;
      const { askedAtMs } = pool;
      const pauseMs = pool.failures === 0 ? ASKING_MS : Math.min(MAX_BACKOFF_MS, 250 * 2 ** pool.failures);
      if (nowMs - askedAtMs >= pauseMs) {
        const asking = this.#registry.refresh(pool);
        if (ready) return later(asking);
        return asking;
      }
      // Somebody asks, or has just heard that it fails or is not warm.
      if (ready || pool.failures > 0 || pool.statusAtMs >= askedAtMs || nowMs - startedAtMs > ASKING_MS) return;
      await this.#clock.sleep(WAIT_STEP_MS);
    }
  }
}
