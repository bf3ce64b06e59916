// Keeps a folder of records within its bytes, and within what can be listed: who holds most gives up what was used longest ago. Each process removes what it knows of, so the bound is
// passed by what the others write between two looks, and no more. What another process used meanwhile stays: its file says so.
import { type DiskIndex, SHARDS } from './diskIndex.ts';
import { MAX_NAMES, type RecordFolder } from './recordFolder.ts';

/** Finer differences between a file's time and ours are clocks and rounding. */
const USED_SINCE_MS = 1000;
/** A file's time that is further to come is of a clock that was set back, and tells nothing: it would keep the record for ever. */
const MAX_SKEW_MS = 60_000;
/** Of the names that listings can tell: shards are not equally full, and what no listing tells would be bounded by nobody. */
const LISTED_PART = 0.9;

export interface DiskLimits {
  capacityBytes: number;
  /** Left to others on the file system. */
  reservedBytes: number;
  /** Default: as many as are found again by listing the folder. */
  maxRecords?: number;
}

export class DiskBound {
  readonly #folder: RecordFolder;
  readonly #index: DiskIndex;
  readonly #limits: Required<DiskLimits>;
  readonly #now: () => number;
  #freeBytes = Number.POSITIVE_INFINITY;
  #writingBytes = 0;
  #trimming: Promise<void> | null = null;
  evicted = 0;
  /** Records that could not be removed. */
  stuck = 0;

  /** `now`: milliseconds since 1970. */
  constructor(folder: RecordFolder, index: DiskIndex, limits: DiskLimits, now: () => number) {
    this.#now = now;
    this.#folder = folder;
    this.#index = index;
    this.#limits = { maxRecords: LISTED_PART * SHARDS * MAX_NAMES, ...limits };
  }

  /** The configured bound, or less where the file system has less left. */
  get limitBytes(): number {
    const { capacityBytes, reservedBytes } = this.#limits;
    return Math.min(capacityBytes, this.#index.bytes + this.#freeBytes - reservedBytes);
  }

  /** Asks the file system what is left, and removes what is over. Never rejects. */
  async refresh(): Promise<void> {
    this.#freeBytes = await this.#folder.freeBytes().catch(() => Number.POSITIVE_INFINITY);
    await this.#trim();
  }

  /** Makes room for a record and does `write`, which notes it in the index. Rejects as `write` does. */
  async withRoom(bytes: number, write: () => Promise<void>): Promise<void> {
    this.#writingBytes += bytes;
    try {
      await this.#trim();
      await write();
      this.#freeBytes -= bytes;
    } finally {
      this.#writingBytes -= bytes;
    }
  }

  async #trim(): Promise<void> {
    await this.#trimming;
    if (!this.#isOver()) return;
    this.#trimming ??= this.#removeOldest().finally(() => {
      this.#trimming = null;
    });
    await this.#trimming;
  }

  #isOver(): boolean {
    return this.#index.bytes + this.#writingBytes > this.limitBytes || this.#index.records > this.#limits.maxRecords;
  }

  async #removeOldest(): Promise<void> {
    for (let tries = this.#index.records; tries > 0 && this.#isOver(); tries--) {
      const id = this.#index.victim(this.#now());
      const entry = id === null ? undefined : this.#index.get(id);
      if (id === null || !entry) return;
      try {
        const { usedMs } = await this.#folder.facts(id);
        if (usedMs > entry.usedMs + USED_SINCE_MS && usedMs <= this.#now() + MAX_SKEW_MS) {
          this.#index.use(id, usedMs);
          continue;
        }
        this.#index.forget(id);
        await this.#folder.remove(id);
        this.#freeBytes += entry.bytes;
        this.evicted += 1;
      } catch (error) {
        this.#index.forget(id);
        const gone = error instanceof Error && 'code' in error && error.code === 'ENOENT';
        if (!gone) this.stuck += 1;
      }
    }
  }
}
