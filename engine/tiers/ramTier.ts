// KV blocks in this process' memory: bounded bytes, one for all engines of the process. Who holds most for his weight gives up what it used
// longest ago (fairLru.ts). Whoever uses a path touches its tail before its head, so tails leave first and what stays can be reached.
import { invariant } from '../invariant.ts';
import { FairLru } from './fairLru.ts';

/** Of an entry beside its bytes: node, id, tokens, places in the order. Measured: 0.8 KB. */
const ENTRY_BYTES = 1024;
/** A conversation that pauses for longer has no share of its own any more. */
const STALE_MS = 3_600_000;

/** Keeps its bytes itself, so that finding them takes no look-up here. */
export interface RamEntry {
  /** Whose share it counts against. */
  readonly owner: string;
  bytes: Uint8Array | null;
  /** Left for room. */
  evicted(bytes: Uint8Array): void;
}

export class RamTier {
  readonly capacityBytes: number;
  readonly #now: () => number;
  readonly #order = new FairLru<RamEntry>(STALE_MS);
  stored = 0;
  evicted = 0;

  /** `now`: milliseconds. */
  constructor(capacityBytes: number, now: () => number) {
    this.capacityBytes = capacityBytes;
    this.#now = now;
  }

  get blocks(): number {
    return this.#order.size;
  }

  get bytes(): number {
    return this.#order.bytes;
  }

  /** The owner's weight from now on. */
  weigh(owner: string, weight: number): void {
    this.#order.weigh(owner, weight);
  }

  /** Takes the bytes as their owner; false where they don't fit at all. */
  put(entry: RamEntry, bytes: Uint8Array): boolean {
    const size = bytes.byteLength + ENTRY_BYTES;
    if (size > this.capacityBytes) return false;
    entry.bytes = bytes;
    this.stored += 1;
    this.#order.put(entry, { owner: entry.owner, bytes: size, usedMs: this.#now() });
    while (this.#order.bytes > this.capacityBytes) this.#evict();
    return true;
  }

  touch(entry: RamEntry): void {
    this.#order.use(entry, this.#now());
  }

  drop(entry: RamEntry): void {
    this.#order.delete(entry);
    entry.bytes = null;
  }

  #evict(): void {
    const victim = this.#order.victim(this.#now());
    const bytes = victim?.bytes;
    invariant(victim && bytes, 'what is over its bytes holds some', { bytes: this.bytes });
    this.drop(victim);
    this.evicted += 1;
    victim.evicted(bytes);
  }
}
