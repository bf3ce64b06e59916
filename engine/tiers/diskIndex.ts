// Which records a folder holds, as far as this process knows, with their sizes and the order of their last use. Memory only: it never
// asks the disk, and being wrong costs a miss. Sharded as the folder is, so that a listing of one shard is compared with that shard alone.
import { invariant } from '../invariant.ts';

/** Sub-folders, by the id's first byte modulo this: so few that looking at all of them each second costs nothing. */
export const SHARDS = 64;

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

export class DiskIndex {
  /** In order of use within a shard, oldest first. */
  readonly #shards: Map<string, DiskEntry>[] = Array.from({ length: SHARDS }, () => new Map());
  #bytes = 0;
  #records = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get records(): number {
    return this.#records;
  }

  has(id: string): boolean {
    return this.#shards[shardOf(id)]!.has(id);
  }

  get(id: string): DiskEntry | undefined {
    return this.#shards[shardOf(id)]!.get(id);
  }

  /** A record whose size and last use are known; the newest of its shard. */
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
    const shard = this.#shards[shardOf(id)]!;
    const entry = shard.get(id);
    if (!entry) return;
    shard.delete(id);
    this.#bytes -= entry.bytes;
    this.#records -= 1;
    invariant(this.#bytes >= 0 && this.#records >= 0, 'a record is forgotten once', { bytes: this.#bytes });
  }

  ids(shard: number): IterableIterator<string> {
    return this.#shards[shard]!.keys();
  }

  /** Puts a shard into the order of last use: names come in the order of the folder. */
  sort(shard: number): void {
    const sorted = [...this.#shards[shard]!].sort(([, a], [, b]) => a.usedMs - b.usedMs);
    this.#shards[shard] = new Map(sorted);
  }

  /** The record used longest ago; null when there is none. */
  oldest(): string | null {
    let oldest: string | null = null;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const shard of this.#shards) {
      const first = shard.entries().next().value;
      if (first && first[1].usedMs < oldestMs) [oldest, oldestMs] = [first[0], first[1].usedMs];
    }
    return oldest;
  }

  #put(id: string, entry: DiskEntry): void {
    this.forget(id);
    this.#shards[shardOf(id)]!.set(id, entry);
    this.#bytes += entry.bytes;
    this.#records += 1;
  }
}
