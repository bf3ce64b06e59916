// The durable ground of the bill. Every start, release and end is appended here before the client learns of it: one write per
// engine step, for all sequences together. It survives kill -9 at any byte; `fsync: each` also survives the loss of power.
//
// A folder holds one live segment. When it has grown, a new one opens with a snapshot of what is still unacknowledged, under a
// temporary name until it is whole; then the old one goes. So the newest whole segment is always the entire truth.
import fs from 'node:fs';
import { join } from 'node:path';
import { invariant } from '../engine/invariant.ts';
import { decodeLines, encodeLine } from './journalLines.ts';
import { lockFolder } from './journalLock.ts';
import { type JournalRecord, ReceiptBook } from './receipts.ts';

/** The disk refused: full, gone or failing. Nothing may be released until `heal` succeeds. */
export class JournalUnavailable extends Error {
  override readonly name = 'JournalUnavailable';
  readonly code = 'journal_unavailable';
}

/** The system calls that can fail at run time; replaced in tests by a disk that is full. */
export type JournalIo = Pick<typeof fs, 'writeSync' | 'fsyncSync' | 'ftruncateSync' | 'renameSync'>;

export interface JournalOptions {
  folder: string;
  fsync: 'none' | 'each';
  /** A segment is compacted past this, or past twice its snapshot where that is more. */
  segmentBytes: number;
  now: () => number;
  io?: JournalIo;
}

/** Records per line of a snapshot: bounds the longest line. */
const SNAPSHOT_BATCH = 256;
const SEGMENT = /^journal-(\d{10})\.log$/;

export class Journal {
  readonly book = new ReceiptBook();
  /** Lines that recovery had to skip; 1 is normal after a kill. */
  readonly damagedLines: number;
  /** Requests that ran when the last process died. */
  readonly lostRequests: number;
  readonly #options: JournalOptions;
  readonly #io: JournalIo;
  readonly #unlock: () => void;
  #sequence = 0;
  #fd = -1;
  #bytes = 0;
  #rotateAt = 0;
  #healthy = true;

  /** Opens or creates the folder, recovers, and compacts. Throws JournalLocked or JournalUnavailable. */
  constructor(options: JournalOptions) {
    this.#options = options;
    this.#io = options.io ?? fs;
    fs.mkdirSync(options.folder, { recursive: true, mode: 0o700 });
    this.#unlock = lockFolder(options.folder);
    try {
      this.damagedLines = this.#recover();
      const lost = this.book.runningHandles();
      const timeMs = options.now();
      for (const handle of lost) this.book.apply({ kind: 'end', handle, outcome: 'lost', timeMs });
      this.lostRequests = lost.length;
      this.#rotate();
    } catch (error) {
      this.#unlock();
      throw error;
    }
  }

  get healthy(): boolean {
    return this.#healthy;
  }

  /** Makes the records durable, then applies them. Throws JournalUnavailable, and then nothing was recorded. */
  append(records: readonly JournalRecord[]): void {
    if (records.length === 0) return;
    if (!this.#healthy) throw new JournalUnavailable(`The journal in ${this.#options.folder} is not writable.`);
    this.#write(encodeLine(records));
    for (const record of records) this.book.apply(record);
    if (this.#bytes > this.#rotateAt) this.#tryRotate();
  }

  /** Applies records that could not be made durable, so that a later `heal` writes what they lead to. */
  applyUnrecorded(records: readonly JournalRecord[]): void {
    invariant(!this.#healthy, 'a healthy journal records everything');
    for (const record of records) this.book.apply(record);
  }

  /** Tries to write again after a failure, by a new segment of the whole state. True when the journal works. */
  heal(): boolean {
    if (!this.#healthy) this.#tryRotate();
    return this.#healthy;
  }

  close(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
    this.#healthy = false;
    this.#unlock();
  }

  #path(sequence: number): string {
    return join(this.#options.folder, `journal-${String(sequence).padStart(10, '0')}.log`);
  }

  #segments(): number[] {
    const names = fs.readdirSync(this.#options.folder);
    return names
      .flatMap((name) => SEGMENT.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** Reads the newest segment; older ones are left-overs of a compaction that was cut short after its rename. */
  #recover(): number {
    const newest = this.#segments().at(-1);
    if (newest === undefined) return 0;
    this.#sequence = newest;
    const { batches, damaged } = decodeLines(fs.readFileSync(this.#path(newest)));
    for (const record of batches.flat()) this.book.apply(record);
    return damaged;
  }

  /** One append; on failure the file is cut back to its last whole line, so that nothing unsent is ever billed. */
  #write(line: Uint8Array): void {
    try {
      for (let done = 0; done < line.length; ) done += this.#io.writeSync(this.#fd, line, done);
      if (this.#options.fsync === 'each') this.#io.fsyncSync(this.#fd);
      this.#bytes += line.length;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(cause: unknown): never {
    this.#healthy = false;
    try {
      if (this.#fd >= 0) this.#io.ftruncateSync(this.#fd, this.#bytes);
    } catch {
      // The torn line stays; its checksum keeps recovery from believing it.
    }
    throw new JournalUnavailable(
      `The journal in ${this.#options.folder} can't be written. Free disk space or repair the disk; the pool serves again by itself.`,
      { cause },
    );
  }

  #tryRotate(): void {
    try {
      this.#rotate();
    } catch (error) {
      if (!(error instanceof JournalUnavailable)) throw error;
    }
  }

  /** Opens segment n+1 with a snapshot, makes it the truth by one rename, and removes what came before. */
  #rotate(): void {
    const next = this.#sequence + 1;
    const temporary = `${this.#path(next)}.tmp`;
    const old = this.#fd;
    const oldBytes = this.#bytes;
    this.#fd = -1;
    try {
      this.#fd = fs.openSync(temporary, 'w', 0o600);
      this.#bytes = 0;
      const records = this.book.snapshot();
      for (let i = 0; i < records.length; i += SNAPSHOT_BATCH) {
        const line = encodeLine(records.slice(i, i + SNAPSHOT_BATCH));
        for (let done = 0; done < line.length; ) done += this.#io.writeSync(this.#fd, line, done);
        this.#bytes += line.length;
      }
      this.#io.fsyncSync(this.#fd);
      this.#io.renameSync(temporary, this.#path(next));
      this.#syncFolder();
    } catch (error) {
      if (this.#fd >= 0) fs.closeSync(this.#fd);
      fs.rmSync(temporary, { force: true });
      this.#fd = old;
      this.#bytes = oldBytes;
      this.#fail(error);
    }
    if (old >= 0) fs.closeSync(old);
    this.#sequence = next;
    this.#rotateAt = Math.max(this.#options.segmentBytes, 2 * this.#bytes);
    this.#healthy = true;
    for (const sequence of this.#segments()) if (sequence < next) fs.rmSync(this.#path(sequence), { force: true });
  }

  /** A rename is durable only when the folder is. */
  #syncFolder(): void {
    const fd = fs.openSync(this.#options.folder, 'r');
    try {
      this.#io.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }
}
