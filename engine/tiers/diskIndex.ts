// Which records a folder holds, as far as this process knows, with their sizes and the order of their last use. Memory only: it never
// asks the disk, and being wrong costs a miss. Sharded as the folder is, so that a listing of one shard is compared with that shard alone.
import { invariant } from '../invariant.ts';

/** Sub-folders, by the id's first byte modulo this: so few that looking at all of them each second costs nothing. */
export const SHARDS = 64;

/** Two records that were used within such a time of each other may leave in either order: clocks of processes and files differ. */
const ORDER_SLACK_MS = 60_000;

/** Records are counted in whole pages, as file systems keep them. */
const PAGE_BYTES = 4096;

export interface DiskEntry {
  bytes: number;
  /** Last use that the file's time tells; the time of the look where it has not been asked yet. */
  usedMs: number;
  /** False: only its name has been seen. */
  measured: boolean;
}

export function shardOf(id: string): number {
  return Number.parseInt(id.slice(0, 2), 16) % SHARDS;
}

interface Shard {
  /** In order of use, oldest first, unless `mixed`. */
  entries: Map<string, DiskEntry>;
  newestMs: number;
  /** Something older was put behind something newer: a first listing, mostly. */
  mixed: boolean;
}

export class DiskIndex {
  readonly #shards: Shard[] = Array.from({ length: SHARDS }, () => ({
    ...{ entries: new Map(), newestMs: Number.NEGATIVE_INFINITY, mixed: false },
  }));
  #bytes = 0;
  #records = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get records(): number {
    return this.#records;
  }

  has(id: string): boolean {
    return this.#entries(id).has(id);
  }

  get(id: string): DiskEntry | undefined {
    return this.#entries(id).get(id);
  }

  /** A record whose size and last use are known. */
  note(id: string, bytes: number, usedMs: number): void {
    this.#put(id, { bytes: Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES, usedMs, measured: true });
  }

  /** A record of which only the name was seen, `nowMs`. */
  noteName(id: string, nowMs: number): void {
    if (!this.has(id)) this.#put(id, { bytes: 0, usedMs: nowMs, measured: false });
  }

  use(id: string, nowMs: number): void {
    const entry = this.get(id);
    if (entry) this.#put(id, { ...entry, usedMs: nowMs });
  }

  forget(id: string): void {
    const entries = this.#entries(id);
    const entry = entries.get(id);
    if (!entry) return;
    entries.delete(id);
    this.#bytes -= entry.bytes;
    this.#records -= 1;
    invariant(this.#bytes >= 0 && this.#records >= 0, 'a record is forgotten once', { bytes: this.#bytes });
  }

  ids(shard: number): IterableIterator<string> {
    return this.#shards[shard]!.entries.keys();
  }

  /** The record used longest ago; null when there is none. */
  oldest(): string | null {
    let oldest: string | null = null;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const shard of this.#shards) {
      if (shard.mixed) sort(shard);
      const first = shard.entries.entries().next().value;
      if (first && first[1].usedMs < oldestMs) [oldest, oldestMs] = [first[0], first[1].usedMs];
    }
    return oldest;
  }

  #put(id: string, entry: DiskEntry): void {
    this.forget(id);
    const shard = this.#shards[shardOf(id)]!;
    shard.entries.set(id, entry);
    if (entry.usedMs < shard.newestMs - ORDER_SLACK_MS) shard.mixed = true;
    else shard.newestMs = Math.max(shard.newestMs, entry.usedMs);
    this.#bytes += entry.bytes;
    this.#records += 1;
  }

  #entries(id: string): Map<string, DiskEntry> {
    return this.#shards[shardOf(id)]!.entries;
  }
}

function sort(shard: Shard): void {
  shard.entries = new Map([...shard.entries].sort(([, a], [, b]) => a.usedMs - b.usedMs));
  shard.mixed = false;
}
