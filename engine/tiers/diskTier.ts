// Sealed records on disk: bounded bytes, shared fairly among tenants (fairLru.ts), shared with other processes without a lock. One for all engines of a
// process; it knows ids and sizes, no keys and no tokens. Whatever the file system says, a caller gets a miss and a counter moves.
import { setTimeout as sleep } from 'node:timers/promises';
import { Smoothed } from '../smoothed.ts';
import { CircuitBreaker } from './circuitBreaker.ts';
import { DiskBound } from './diskBound.ts';
import { DiskIndex } from './diskIndex.ts';
import { FolderWatch, MAX_RECORD_BYTES } from './folderWatch.ts';
import type { DiskStatus, DiskTrouble } from './port.ts';
import { RecordFolder } from './recordFolder.ts';
import { Slots } from './slots.ts';

/** Few enough that the four threads that Node has for files serve others, too. */
const MAX_READS = 3;
const MAX_WRITES = 2;
/** Blocks that wait to be written are held in memory beside the RAM tier. */
const MAX_QUEUED_BYTES = MAX_RECORD_BYTES;
const LOOK_INTERVAL_MS = 1000;
/** A look of many changes pauses longer: looking takes at most this share of the time. */
const LOOK_SHARE = 0.05;
/** A record's file time is renewed at most so often. */
const TOUCH_INTERVAL_MS = 60_000;
/** The ledger may live on the same file system: this much is left to others. */
const RESERVED_BYTES = 2 ** 30;
/** A read that takes longer means that the disk hangs (a dead network mount): no hits until it returns. */
const STUCK_MS = 10_000;

export interface DiskTierOptions {
  folder: string;
  capacityBytes: number;
  /** Milliseconds since 1970, as files have it. */
  now: () => number;
  /** A line for the log: writing has failed repeatedly. Told once per row of failures. */
  onNotice: (line: string) => void;
  /** Left to others on the file system; default 1 GiB. */
  reservedBytes?: number;
  /** Default: about a million, what listings of the folder find again. */
  maxRecords?: number;
}

interface QueuedWrite {
  id: string;
  bytes: number;
  owner: string;
  seal: () => Buffer[] | null;
}

export class DiskTier {
  readonly #options: DiskTierOptions;
  readonly #folder: RecordFolder;
  readonly #index = new DiskIndex();
  readonly #watch: FolderWatch;
  readonly #bound: DiskBound;
  readonly #breaker = new CircuitBreaker();
  readonly #reads = new Slots(MAX_READS);
  readonly #readSince = new Set<{ sinceMs: number }>();
  readonly #queue: QueuedWrite[] = [];
  /** Ids queued or being written: what is complete and leaves the GPU at once is offered twice. */
  readonly #pending = new Set<string>();
  readonly #readRate = new Smoothed();
  readonly #writeRate = new Smoothed();
  readonly #troubles: Record<DiskTrouble, number> = { gone: 0, damaged: 0, unreadable: 0, unwritable: 0 };
  readonly #stop = new AbortController();
  #queuedBytes = 0;
  #writing = 0;
  #looking: Promise<void> | null = null;
  #idle: (() => void)[] = [];
  #hits = 0;
  #stored = 0;
  #dropped = 0;

  constructor(options: DiskTierOptions) {
    this.#options = options;
    this.#folder = new RecordFolder(options.folder);
    this.#bound = new DiskBound(this.#folder, this.#index, { reservedBytes: RESERVED_BYTES, ...options }, options.now);
    const unreadable = (error: unknown): void => {
      if (codeOf(error) !== 'ENOENT') this.#troubles.unreadable += 1;
    };
    this.#watch = new FolderWatch(this.#folder, this.#index, unreadable, (id) => this.damaged(id));
  }

  /** Makes the folder and keeps looking into it; resolves after the first look. Never rejects: a folder that can't be made holds nothing. */
  async start(): Promise<void> {
    try {
      await this.#folder.make();
    } catch (error) {
      this.#failed(error);
    }
    const first = this.look();
    void this.#looks();
    await first;
  }

  get usable(): boolean {
    if (this.#stop.signal.aborted) return false;
    for (const { sinceMs } of this.#readSince) if (this.#options.now() - sinceMs > STUCK_MS) return false;
    return true;
  }

  get records(): number {
    return this.#index.records;
  }

  weigh(owner: string, weight: number): void {
    this.#index.weigh(owner, weight);
  }

  has(id: string): boolean {
    return this.#index.has(id);
  }

  /** Its path is used, or was until now: said of a path's tail before its head, so that tails leave first. The file's time stays. */
  used(id: string, owner: string): void {
    this.#index.use(id, this.#options.now(), owner);
  }

  /** The file's bytes; null when they can't be had. The caller opens them, and calls `damaged` when they don't open. `owner`: who uses it. */
  async read(id: string, bytes: number, owner: string): Promise<Buffer | null> {
    await this.#reads.take();
    const reading = { sinceMs: this.#options.now() };
    this.#readSince.add(reading);
    const beganMs = performance.now();
    try {
      const record = await this.#folder.read(id, bytes);
      if (!record) {
        this.damaged(id);
        return null;
      }
      this.#readRate.note(bytes / Math.max(performance.now() - beganMs, 0.01));
      this.#hits += 1;
      this.#renew(id, owner);
      return record;
    } catch (error) {
      this.#index.forget(id);
      this.#troubles[codeOf(error) === 'ENOENT' ? 'gone' : codeOf(error) === 'ELOOP' ? 'damaged' : 'unreadable'] += 1;
      return null;
    } finally {
      this.#readSince.delete(reading);
      this.#reads.give();
    }
  }

  /** The record is not what its name says: removed, so that a good one can take its place. */
  damaged(id: string): void {
    this.#troubles.damaged += 1;
    this.remove(id);
  }

  remove(id: string): void {
    if (!this.#index.has(id)) return;
    this.#index.forget(id);
    this.#folder.remove(id).catch(() => {}); // gone already, or not ours to delete: not in the index either way
  }

  /** Writes later, or never when too much waits. `seal` is called then; null: no longer wanted. `bytes`: of the record. */
  write(id: string, bytes: number, owner: string, seal: () => Buffer[] | null): void {
    if (this.#index.has(id) || this.#pending.has(id)) return;
    const refused = this.#stop.signal.aborted || this.#breaker.isOpen(this.#options.now());
    if (refused || this.#queuedBytes + bytes > MAX_QUEUED_BYTES || bytes > this.#bound.limitBytes) {
      this.#dropped += 1;
      return;
    }
    this.#queue.push({ id, bytes, owner, seal });
    this.#pending.add(id);
    this.#queuedBytes += bytes;
    this.#writeNext();
  }

  /** Finds what has changed in the folder. Once a second by itself; a test may ask. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  /** Resolves once nothing waits to be written. */
  async written(): Promise<void> {
    if (this.#queue.length > 0 || this.#writing > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Writes what waits, for at most `limitMs`, and ends. */
  async close(limitMs: number): Promise<void> {
    const limit = new AbortController();
    await Promise.race([this.written(), sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {})]);
    limit.abort();
    this.#stop.abort();
    this.#dropped += this.#queue.length;
    this.#queue.length = 0;
    this.#queuedBytes = 0;
  }

  status(): DiskStatus {
    const open = this.#breaker.isOpen(this.#options.now()) ? 'backing off' : 'open';
    return {
      blocks: this.#index.records,
      bytes: this.#index.bytes,
      capacityBytes: this.#options.capacityBytes,
      hits: this.#hits,
      stored: this.#stored,
      evicted: this.#bound.evicted,
      troubles: { ...this.#troubles, unwritable: this.#troubles.unwritable + this.#bound.stuck },
      dropped: this.#dropped,
      queuedWrites: this.#queue.length + this.#writing,
      readBytesPerSecond: perSecond(this.#readRate),
      writeBytesPerSecond: perSecond(this.#writeRate),
      state: this.#stop.signal.aborted ? 'closed' : open,
    };
  }

  #renew(id: string, owner: string): void {
    const nowMs = this.#options.now();
    const usedMs = this.#index.get(id)?.usedMs ?? nowMs;
    this.used(id, owner);
    // A time that can't be set costs the order of use, nothing else.
    if (nowMs - usedMs > TOUCH_INTERVAL_MS) this.#folder.touch(id, nowMs).catch(() => {});
  }

  #writeNext(): void {
    while (this.#writing < MAX_WRITES && this.#queue.length > 0) {
      const next = this.#queue.shift()!;
      this.#queuedBytes -= next.bytes;
      this.#writing += 1;
      void this.#writeOne(next).finally(() => {
        this.#writing -= 1;
        this.#pending.delete(next.id);
        this.#writeNext();
        if (this.#writing === 0) for (const resolve of this.#idle.splice(0)) resolve();
      });
    }
  }

  async #writeOne({ id, bytes, owner, seal }: QueuedWrite): Promise<void> {
    if (this.#index.has(id)) return;
    if (this.#breaker.isOpen(this.#options.now())) {
      this.#dropped += 1;
      return;
    }
    try {
      await this.#bound.withRoom(bytes, async () => {
        const beganMs = performance.now();
        const pieces = seal();
        if (!pieces) return;
        await this.#folder.write(id, pieces);
        this.#writeRate.note(bytes / Math.max(performance.now() - beganMs, 0.01));
        this.#index.note(id, bytes, this.#options.now(), owner);
        this.#stored += 1;
        this.#breaker.succeeded();
      });
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#troubles.unwritable += 1;
    if (!this.#breaker.failed(this.#options.now())) return;
    this.#options.onNotice(
      `The KV cache can't write to ${this.#folder.root} (${codeOf(error)}): its blocks stay in memory meanwhile. Tried again later, by itself.`,
    );
  }

  async #looks(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const beganMs = performance.now();
      await this.look();
      const pauseMs = Math.max(LOOK_INTERVAL_MS, (performance.now() - beganMs) / LOOK_SHARE);
      await sleep(pauseMs, undefined, { ref: false, signal }).catch(() => {});
    }
  }

  async #look(): Promise<void> {
    await this.#watch.look(this.#options.now, this.#stop.signal);
    await this.#bound.refresh();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}

function perSecond(bytesPerMs: Smoothed): number | null {
  return bytesPerMs.value === null ? null : bytesPerMs.value * 1000;
}
