// Requests that the pool has taken in and not begun: they wait for their model to wake, or for an engine to take them. The journal knows nothing
// of them, and "unknown" is the word on which a gateway gives a hold back: so who asks meanwhile is told that they run.
//
//   signed ─▶ arrived ─▶ begun, the journal has it        arrived ─▶ refused, forgotten
import type { Receipt } from './wire/events.ts';

export class Arrivals {
  readonly #poolId: string;
  readonly #now: () => number;
  /** As many as there are seats where they wait, and requests on their way to an engine. */
  readonly #waiting = new Set<Receipt>();

  constructor(poolId: string, now: () => number) {
    this.#poolId = poolId;
    this.#now = now;
  }

  /** `begin` resolves when the journal has the request, and rejects where it never will. */
  async until<T>(request: { requestId: string; tenant: string }, model: string, begin: () => Promise<T>): Promise<T> {
    const nowMs = this.#now();
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

  /** Of one that waits: it runs, and has released nothing here. */
  receiptOf(requestId: string): Receipt | undefined {
    for (const arrival of this.#waiting) if (arrival.request_id === requestId) return { ...arrival };
    return undefined;
  }
}
