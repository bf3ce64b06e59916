// Where requests wait for an engine that is not warm yet: few enough, for a short time, in the order in which they came. When it is warm
// all of them start at once. Who waits too long, or finds no seat, is told when to come again.
import { invariant } from '../../engine/invariant.ts';
import { type PoolError, poolNotReady, requestClosed } from '../errors.ts';

interface Waiting {
  start: () => Promise<void>;
  settle: (result: Promise<void>) => void;
}

export interface WaitingRoomOptions {
  seats: number;
  waitMs: number;
  /** Until the engine is likely to be warm. */
  retryAfterMs: () => number;
}

export class WaitingRoom {
  readonly #options: WaitingRoomOptions;
  readonly #waiting = new Set<Waiting>();

  constructor(options: WaitingRoomOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Calls `start` when the room opens, and answers as it does. `limitMs`: the caller's own bound on the wait. Throws PoolError (503)
   * without a call when there is no seat, the wait is over, or `signal` aborts.
   */
  async enter(start: () => Promise<void>, signal: AbortSignal, limitMs: number): Promise<void> {
    const { seats, waitMs, retryAfterMs } = this.#options;
    if (this.#waiting.size >= seats)
      throw poolNotReady('This model is asleep, and enough requests wait for it.', retryAfterMs());
    const { promise, resolve } = Promise.withResolvers<void>();
    const refuse = (error: PoolError) => waiting.settle(Promise.reject(error));
    const leave = () => refuse(requestClosed());
    const timer = setTimeout(
      () => refuse(poolNotReady('This model did not wake in time.', retryAfterMs())),
      Math.max(0, Math.min(waitMs, limitMs)),
    );
    const waiting: Waiting = {
      start,
      settle: (result) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        this.#waiting.delete(waiting);
        resolve(result);
      },
    };
    this.#waiting.add(waiting);
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    return promise;
  }

  /** Everybody starts, the first come first. */
  open(): void {
    // A start may refuse before it returns.
    const begin = async ({ start }: Waiting) => start();
    for (const waiting of [...this.#waiting]) waiting.settle(begin(waiting));
    invariant(this.#waiting.size === 0, 'nobody waits in an open room', { waiting: this.#waiting.size });
  }

  /** Nobody starts any more. */
  refuseAll(error: PoolError): void {
    for (const { settle } of [...this.#waiting]) settle(Promise.reject(error));
  }
}
