// Bounds retries by the requests that come: where all pools fail, each request tried again and again would be the load that keeps them down.
// A bucket: a request puts a share of a retry in, a retry takes one out (Finagle's retry budget).

/** Retries per request that come to stay. */
const SHARE = 0.2;
/** All that run at a pool that dies may be retried at once. */
const MOST = 100;

export class RetryBudget {
  #left = MOST;

  /** A request has begun. */
  put(): void {
    this.#left = Math.min(MOST, this.#left + SHARE);
  }

  /** False: there have been too many. */
  take(): boolean {
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
