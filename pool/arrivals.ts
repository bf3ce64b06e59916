// Requests that the pool has taken in and not begun: they wait for their model to wake, or for an engine to take them. The journal knows nothing
// of them, and "unknown" is the word on which a gateway gives a hold back: so who asks meanwhile is told that they run. And the other way round:
// a gateway that has given a request up has it fenced, so that it is refused should it still be on its way, and its hold can go at once.
//
//   signed ─▶ fenced? ──no──▶ arrived ─▶ begun, the journal has it
//                └─yes──▶ refused          └─▶ refused, forgotten
import { requestClosed } from './errors.ts';
import type { Receipt } from './wire/events.ts';
import { MAX_CLOCK_SKEW_MS } from './wire/signing.ts';

/** A signature from before the fence may be of a clock that is ahead, and is accepted for one skew more. */
const FENCED_FOR_MS = 2 * MAX_CLOCK_SKEW_MS;
/** About 1 MB. Only what a gateway's death or a cut connection left open is fenced. */
export const MAX_FENCED = 10_000;

export class Arrivals {
  readonly #poolId: string;
  readonly #now: () => number;
  /** As many as there are seats where they wait, and requests on their way to an engine. */
  readonly #waiting = new Set<Receipt>();
  /** By request, the latest last: since when. */
  readonly #fenced = new Map<string, number>();

  constructor(poolId: string, now: () => number) {
    this.#poolId = poolId;
    this.#now = now;
  }

  /** `begin` resolves when the journal has the request, and rejects where it never will. Throws PoolError (503) instead for one that is fenced. */
  async until<T>(request: { requestId: string; tenant: string }, model: string, begin: () => Promise<T>): Promise<T> {
    const nowMs = this.#now();
    this.#forget(nowMs);
    if (this.#fenced.has(request.requestId)) throw requestClosed();
    const arrival: Receipt = {
      ...{ request_id: request.requestId, pool_id: this.#poolId, tenant: request.tenant, model },
      ...{ prompt_tokens: 0, cached_tokens: 0, choices: [], outcome: 'running' },
      ...{ started_at_ms: nowMs, updated_at_ms: nowMs },
    };
    this.#waiting.add(arrival);
    try {
      return await begin();
    } finally {
      this.#waiting.delete(arrival);
    }
  }

  /** From now on the request is refused. False where it waits here, or too many are fenced: then it may run. */
  fence(requestId: string): boolean {
    const nowMs = this.#now();
    this.#forget(nowMs);
    if (this.receiptOf(requestId)) return false;
    if (!this.#fenced.delete(requestId) && this.#fenced.size >= MAX_FENCED) return false;
    this.#fenced.set(requestId, nowMs);
    return true;
  }

  /** Of one that waits: it runs, and has released nothing here. */
  receiptOf(requestId: string): Receipt | undefined {
    for (const arrival of this.#waiting) if (arrival.request_id === requestId) return { ...arrival };
    return undefined;
  }

  #forget(nowMs: number): void {
    for (const [requestId, fencedAtMs] of this.#fenced) {
      if (nowMs - fencedAtMs <= FENCED_FOR_MS) break;
      this.#fenced.delete(requestId);
    }
  }
}
