// Everything that a pool has ever journalled, also what it has forgotten since: a second link to each segment keeps the file when the pool
// takes its own away. What is read here is what the pool knew at each moment, so a bill can be held against it without asking anybody.
import { linkSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeLines } from '../../pool/journalLines.ts';
import { ReceiptBook } from '../../pool/receipts.ts';
import type { Receipt } from '../../pool/wire/events.ts';

/** A segment lives as long as its process, at least. */
const LOOK_EVERY_MS = 10;

export class JournalArchive {
  readonly #journal: string;
  readonly #kept: string;
  readonly #linked = new Set<string>();
  readonly #looking: NodeJS.Timeout;

  /** `kept`: a folder on the same file system. */
  constructor(journal: string, kept: string) {
    this.#journal = journal;
    this.#kept = kept;
    mkdirSync(kept, { recursive: true });
    this.#look();
    this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  /** The last that was known of each request, by its id. */
  receipts(): Map<string, Receipt> {
    this.close();
    this.#look();
    const last = new Map<string, Receipt>();
    for (const name of [...this.#linked].sort()) {
      const book = new ReceiptBook();
      const { batches } = decodeLines(readFileSync(join(this.#kept, name)));
      for (const record of batches.flat()) {
        if (record.kind === 'ack') continue;
        book.apply(record);
        if (record.kind === 'start') last.set(record.receipt.request_id, record.receipt);
      }
      for (const id of last.keys()) {
        const receipt = book.get(id);
        if (receipt) last.set(id, receipt);
      }
    }
    return last;
  }

  /** What comes from now on is not kept. */
  close(): void {
    clearInterval(this.#looking);
  }

  #look(): void {
    for (const name of readdirSync(this.#journal)) {
      if (!name.endsWith('.log') || this.#linked.has(name)) continue;
      try {
        linkSync(join(this.#journal, name), join(this.#kept, name));
        this.#linked.add(name);
      } catch (error) {
        // Taken away between the two calls: then it was linked under its name before, or is the next one's snapshot.
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      }
    }
  }
}
