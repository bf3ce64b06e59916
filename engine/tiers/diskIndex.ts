// Which records a folder holds, as far as this process knows, with their sizes and the order of their last use. Memory only: it never
// asks the disk, and being wrong costs a miss. A record counts against whoever wrote or used it here; what other processes left is nobody's
// until it is used, since the folder does not tell whose it is.
import { type FairEntry, FairLru } from './fairLru.ts';

/** Sub-folders, by the id's first byte modulo this: so few that looking at all of them each second costs nothing. */
export const SHARDS = 64;

/** Owner of what this process has neither written nor used. */
const NOBODY = '';
/** Records are counted in whole pages, as file systems keep them. */
const PAGE_BYTES = 4096;
/** Who was not there for a day has no share of the disk any more. */
const STALE_MS = 86_400_000;

export interface DiskEntry extends FairEntry {
  /** False: only its name has been seen, `usedMs` is when. */
  measured: boolean;
}

export function shardOf(id: string): number {
  return Number.parseInt(id.slice(0, 2), 16) % SHARDS;
}

export class DiskIndex {
  readonly #order = new FairLru<string, DiskEntry>(STALE_MS);
  readonly #shards: Set<string>[] = Array.from({ length: SHARDS }, () => new Set());

  get bytes(): number {
    return this.#order.bytes;
  }

  get records(): number {
    return this.#order.size;
  }

  has(id: string): boolean {
    return this.#order.get(id) !== undefined;
  }

  get(id: string): DiskEntry | undefined {
    return this.#order.get(id);
  }

  /** The owner's weight from now on; 1 until it is told. */
  weigh(owner: string, weight: number): void {
    this.#order.weigh(owner, weight);
  }

  /** A record whose size and last use are known. */
  note(id: string, bytes: number, usedMs: number, owner = NOBODY): void {
    this.#put(id, { owner, bytes: Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES, usedMs, measured: true });
  }

  /** A record of which only the name was seen, `nowMs`. */
  noteName(id: string, nowMs: number): void {
    if (!this.has(id)) this.#put(id, { owner: NOBODY, bytes: 0, usedMs: nowMs, measured: false });
  }

  /** `owner`: whose it is from now on; the same where that is not known. */
  use(id: string, nowMs: number, owner?: string): void {
    const entry = this.get(id);
    if (!entry) return;
    if (owner === undefined || owner === entry.owner) this.#order.use(id, nowMs);
    else this.#put(id, { ...entry, usedMs: nowMs, owner });
  }

  forget(id: string): void {
    this.#order.delete(id);
    this.#shards[shardOf(id)]!.delete(id);
  }

  ids(shard: number): IterableIterator<string> {
    return this.#shards[shard]!.values();
  }

  /** The record to leave next; null when there is none. */
  victim(nowMs: number): string | null {
    return this.#order.victim(nowMs);
  }

  #put(id: string, entry: DiskEntry): void {
    this.#order.put(id, entry);
    this.#shards[shardOf(id)]!.add(id);
  }
}
