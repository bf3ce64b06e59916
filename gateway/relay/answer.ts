// An answer's text as its client gets it: a piece per event for a stream, one at the end for a whole one. The end is made once, before
// the bill is booked, so that an answer which is kept for replays is stored with its row; it is sent after that.
import type { PoolEvent } from '../../pool/wire/events.ts';
import type { Share } from '../byteBudget.ts';
import type { Bill } from '../ledger/bill.ts';
import { type Collector, type Shaper, SSE_DONE, sseText, usageOf } from './shape.ts';

type Done = Extract<PoolEvent, { type: 'done' }>;

export interface Answer {
  /** What is sent for an event; empty of a whole answer. */
  add(event: PoolEvent): string;
  /** The rest of it. */
  end(done: Done, bill: Bill): string;
}

export function wholeAnswer(collector: Collector): Answer {
  return {
    add(event) {
      collector.add(event);
      return '';
    },
    end(done, bill) {
      collector.add(done);
      const body = { ...collector.answer(), usage: usageOf(bill, done.usage) };
      return JSON.stringify(body);
    },
  };
}

export function streamedAnswer(shaper: Shaper, includeUsage: boolean): Answer {
  const chunk = (value: object) => sseText(includeUsage ? { ...value, usage: null } : value);
  const add = (event: PoolEvent) => shaper.chunks(event).map(chunk).join('');
  return {
    add,
    end(done, bill) {
      const usage = () => sseText({ ...shaper.usageChunk(), usage: usageOf(bill, done.usage) });
      return add(done) + (includeUsage ? usage() : '') + SSE_DONE;
    },
  };
}

/** Larger answers aren't kept: a Durable Object takes 2 MB in one row. They would be computed again, and cost nothing then. */
export const MAX_KEPT_ANSWER_BYTES = 1024 * 1024;
/** Of all answers that are being made: an isolate has 128 MB for everything. */
export const MAX_KEPT_BYTES_AT_ONCE = 32 * 1024 * 1024;

/** Remembers what was sent, and its end from when it was made to when it is sent. */
export class KeptAnswer implements Answer {
  readonly #inner: Answer;
  readonly #share: Share;
  /** null: it is not kept. */
  #text: string | null = '';
  #bytes = 0;
  #end: string | null = null;

  constructor(inner: Answer, share: Share) {
    this.#inner = inner;
    this.#share = share;
  }

  add(event: PoolEvent): string {
    return this.#remember(this.#inner.add(event));
  }

  end(done: Done, bill: Bill): string {
    this.#end ??= this.#remember(this.#inner.end(done, bill));
    return this.#end;
  }

  /** All of it; null: it is too large to be kept, or there is no room. */
  whole(done: Done, bill: Bill): Uint8Array | null {
    this.end(done, bill);
    return this.#text === null ? null : Buffer.from(this.#text);
  }

  /** What it remembers is needed no more. */
  release(): void {
    this.#share.release();
    this.#text = null;
  }

  #remember(piece: string): string {
    if (this.#text === null) return piece;
    const bytes = Buffer.byteLength(piece);
    if (this.#bytes + bytes <= MAX_KEPT_ANSWER_BYTES && this.#share.take(bytes)) {
      this.#bytes += bytes;
      this.#text += piece;
    } else this.release();
    return piece;
  }
}
