// KV blocks in this process' memory: bounded bytes, least recently used first. One for all engines of the process. Whoever uses a path
// touches its tail before its head, so tails leave first and what stays can be reached.
import { LRUCache } from 'lru-cache';

/** Of an entry beside its bytes: node, id, tokens, list links. Measured: 0.8 KB. */
const ENTRY_BYTES = 1024;

/** Keeps its bytes itself, so that finding them takes no look-up here. */
export interface RamEntry {
  bytes: Uint8Array | null;
  /** Left for room. */
  evicted(bytes: Uint8Array): void;
}

export class RamTier {
  readonly capacityBytes: number;
  readonly #cache: LRUCache<RamEntry, Uint8Array> | null;
  stored = 0;
  evicted = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
    this.#cache =
      capacityBytes < 1
        ? null
        : new LRUCache({
            maxSize: capacityBytes,
            sizeCalculation: (bytes) => bytes.byteLength + ENTRY_BYTES,
            disposeAfter: (bytes, entry, reason) => this.#left(bytes, entry, reason),
          });
  }

  get blocks(): number {
    return this.#cache?.size ?? 0;
  }

  get bytes(): number {
    return this.#cache?.calculatedSize ?? 0;
  }

  /** Takes the bytes as their owner; false where they don't fit at all. */
  put(entry: RamEntry, bytes: Uint8Array): boolean {
    if (!this.#cache || bytes.byteLength + ENTRY_BYTES > this.capacityBytes) return false;
    entry.bytes = bytes;
    this.stored += 1;
    this.#cache.set(entry, bytes);
    return true;
  }

  touch(entry: RamEntry): void {
    this.#cache?.get(entry);
  }

  drop(entry: RamEntry): void {
    this.#cache?.delete(entry);
    entry.bytes = null;
  }

  #left(bytes: Uint8Array, entry: RamEntry, reason: LRUCache.DisposeReason): void {
    if (reason !== 'evict') return;
    this.evicted += 1;
    entry.bytes = null;
    entry.evicted(bytes);
  }
}
