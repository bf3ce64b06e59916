// Bytes that one app may hold for one purpose at once, over all requests: who gets none does without. As with leases, a share ends by
// itself: where a host may destroy a request without a word, what it held would be missing for ever.

/** One request's part, of which it takes as it needs. */
export interface Share {
  /** False: there is no room, and nothing is taken. */
  take(bytes: number): boolean;
  /** Gives back all that was taken; again changes nothing. */
  release(): void;
}

export class ByteBudget {
  readonly #most: number;
  /** In the order of their beginnings. Lengths differ little, so the oldest end first, or nearly. */
  readonly #shares = new Map<symbol, { bytes: number; untilMs: number }>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get taken(): number {
    return this.#taken;
  }

  share(nowMs: number, untilMs: number): Share {
    for (const [id, share] of this.#shares) {
      if (share.untilMs > nowMs) break;
      this.#end(id);
    }
    const id = Symbol('share');
    const mine = { bytes: 0, untilMs };
    this.#shares.set(id, mine);
    return { take: (bytes) => this.#shares.has(id) && this.#take(mine, bytes), release: () => this.#end(id) };
  }

  #take(share: { bytes: number }, bytes: number): boolean {
    if (this.#taken + bytes > this.#most) return false;
    share.bytes += bytes;
    this.#taken += bytes;
    return true;
  }

  #end(id: symbol): void {
    this.#taken -= this.#shares.get(id)?.bytes ?? 0;
    this.#shares.delete(id);
  }
}
