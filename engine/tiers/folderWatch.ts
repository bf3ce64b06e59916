// Keeps a disk index true to its folder, without a log and without a lock: the folder itself is the only truth. The times of the shards
// tell which have changed since the last look, and those are listed again; so what other processes write and delete is seen one look
// later, and what a killed one left needs no repair. Names come first, since they are enough to hit; sizes and times of use follow.
import { type DiskIndex, SHARDS } from './diskIndex.ts';
import type { RecordFolder } from './recordFolder.ts';

/** Sizes and times asked for per look, so that a look ends; the rest waits for the next one. */
const MAX_MEASURED = 50_000;
/** Files asked about at once. */
const MEASURED_AT_ONCE = 3;
/** None of ours is larger: such a file is foreign, and counted as a record it would drive all others out. */
export const MAX_RECORD_BYTES = 64 * 2 ** 20;
/** A folder's time may stand still while it changes: the kernel's clock ticks every few milliseconds. */
const CLOCK_TICK_MS = 50;

export class FolderWatch {
  readonly #folder: RecordFolder;
  readonly #index: DiskIndex;
  /** Per shard, the time that it had when its listing was complete; null: to be listed. */
  readonly #changedMs: (number | null)[] = new Array<number | null>(SHARDS).fill(null);
  readonly #onUnreadable: (error: unknown) => void;
  readonly #onForeign: (id: string) => void;
  #unmeasured: string[] = [];

  /** `onForeign` is told of a file under a record's name that can be none. */
  constructor(
    folder: RecordFolder,
    index: DiskIndex,
    onUnreadable: (error: unknown) => void,
    onForeign: (id: string) => void,
  ) {
    this.#onForeign = onForeign;
    this.#folder = folder;
    this.#index = index;
    this.#onUnreadable = onUnreadable;
  }

  /** `now`: milliseconds since 1970, asked again and again. Never rejects. */
  async look(now: () => number, signal: AbortSignal): Promise<void> {
    for (let shard = 0; shard < SHARDS && !signal.aborted; shard++) await this.#lookAt(shard, now());
    await this.#measure(signal);
  }

  async #lookAt(shard: number, nowMs: number): Promise<void> {
    const changedMs = await this.#folder.changedMs(shard);
    if (changedMs !== null && changedMs === this.#changedMs[shard]) return;
    this.#changedMs[shard] = null;
    let ids = new Set<string>();
    try {
      if (changedMs !== null) {
        ids = await this.#folder.list(shard, nowMs);
        if (nowMs - changedMs > CLOCK_TICK_MS) this.#changedMs[shard] = changedMs;
      }
    } catch (error) {
      this.#onUnreadable(error);
    }
    for (const id of [...this.#index.ids(shard)]) {
      // What was written or used since the listing began need not be in it.
      if (!ids.has(id) && this.#index.get(id)!.usedMs < nowMs) this.#index.forget(id);
    }
    for (const id of ids)
      if (!this.#index.has(id)) {
        this.#index.noteName(id, nowMs);
        this.#unmeasured.push(id);
      }
  }

  async #measure(signal: AbortSignal): Promise<void> {
    const asked = this.#unmeasured.splice(0, MAX_MEASURED);
    if (asked.length === 0) return;
    const measureSome = async () => {
      for (let id = asked.pop(); id !== undefined && !signal.aborted; id = asked.pop())
        try {
          const { bytes, usedMs } = await this.#folder.facts(id);
          if (bytes > MAX_RECORD_BYTES) this.#onForeign(id);
          else if (this.#index.get(id)?.measured === false) this.#index.note(id, bytes, usedMs);
        } catch {
          this.#index.forget(id); // deleted meanwhile
        }
    };
    await Promise.all(Array.from({ length: MEASURED_AT_ONCE }, measureSome));
  }
}
