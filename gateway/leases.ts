// Counts what runs, by leases that end by themselves: where a host may destroy a request without a word (Workers do), a plain counter would
// keep the dead ones, and in the end refuse everybody.

/** Gives the lease back; again changes nothing. */
export type Release = () => void;

export class Leases {
  /** End of each lease, in the order of their beginnings. Lengths differ little, so the oldest end first, or nearly. */
  readonly #untilMs = new Map<symbol, number>();

  take(untilMs: number): Release {
    const lease = Symbol('lease');
    this.#untilMs.set(lease, untilMs);
    return () => void this.#untilMs.delete(lease);
  }

  count(nowMs: number): number {
    for (const [lease, untilMs] of this.#untilMs) {
      if (untilMs > nowMs) break;
      this.#untilMs.delete(lease);
    }
    return this.#untilMs.size;
  }
}
