// When a tenant's object looks after a hold that its own relay has not ended: first when most requests are over, then again and again in
// pauses that grow with its age, so that a pool that is gone for good is not asked each second. A hold that was left is looked after at
// once. Pure; what is forgotten when the object is evicted only makes it look earlier.
import type { Hold } from '../ledger/port.ts';

/** A cut request's receipt is usually there within milliseconds. */
const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 600_000;
/** A pause is this part of the time that has passed. */
const PAUSE_SHARE = 1 / 4;

interface Look {
  leftAtMs: number | null;
  dueAtMs: number;
}

export class Looks {
  /** Of open holds, or those that just ended: swept by `keep`. */
  readonly #looks = new Map<string, Look>();
  readonly #afterMs: number;

  /** `afterMs`: age at which a hold is looked after first. */
  constructor(afterMs: number) {
    this.#afterMs = afterMs;
  }

  /** Its relay has given it up. */
  leave(requestId: string, nowMs: number): void {
    this.#looks.set(requestId, { leftAtMs: nowMs, dueAtMs: nowMs + MIN_PAUSE_MS });
  }

  leftAtMs(requestId: string): number | null {
    return this.#looks.get(requestId)?.leftAtMs ?? null;
  }

  dueAtMs({ requestId, reservedAtMs }: Pick<Hold, 'requestId' | 'reservedAtMs'>): number {
    return this.#looks.get(requestId)?.dueAtMs ?? reservedAtMs + this.#afterMs;
  }

  /** It was looked after just now, and is open still. */
  looked({ requestId, reservedAtMs }: Pick<Hold, 'requestId' | 'reservedAtMs'>, nowMs: number): void {
    const leftAtMs = this.leftAtMs(requestId);
    const least = leftAtMs === null ? this.#afterMs : MIN_PAUSE_MS;
    const pauseMs = (nowMs - (leftAtMs ?? reservedAtMs)) * PAUSE_SHARE;
    this.#looks.set(requestId, { leftAtMs, dueAtMs: nowMs + Math.min(MAX_PAUSE_MS, Math.max(least, pauseMs)) });
  }

  /** Forgets all but these. */
  keep(requestIds: ReadonlySet<string>): void {
    for (const requestId of this.#looks.keys()) if (!requestIds.has(requestId)) this.#looks.delete(requestId);
  }
}
