// One connection to a pool: carries one exchange at a time, and another when that is over and both sides may go on. A reader that is slower
// than the pool holds the pool back; one that leaves early, or aborts, ends the connection, and with it the request.
import type { Socket } from 'node:net';
import { HttpAnswer } from './httpAnswer.ts';
import { NotConnected, type PoolResponse } from './relay/poolRequest.ts';

/** Of an answer that nobody reads, the pool is held back beyond this. */
const MAX_UNREAD_BYTES = 1024 * 1024;
/** A connection is not used any more so long before the pool, by its own word, would close it. */
const CLOSE_MARGIN_MS = 1000;

export interface ConnectionEvents {
  /** It may carry another exchange. */
  idle(): void;
  closed(): void;
}

interface Exchange {
  answer: HttpAnswer;
  body: AnswerBody;
  resolve(response: PoolResponse): void;
  reject(error: Error): void;
  signal: AbortSignal | undefined;
}

export class PoolConnection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  #exchange: Exchange | null = null;
  #error: Error | null = null;
  #connected = false;
  /** By `performance.now()`: until then the pool has promised to keep it open. */
  #usableUntilMs = Number.POSITIVE_INFINITY;

  constructor(socket: Socket, events: ConnectionEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.on('data', (bytes: Buffer) => this.#data(bytes));
    socket.on('end', () => this.#ended());
    socket.on('error', (error) => {
      this.#error ??= error;
    });
    socket.on('close', () => {
      this.#fail(this.#error ?? new Error('the connection closed'));
      this.#events.closed();
    });
  }

  /** While nothing runs on it: whether an exchange may be begun. */
  get usable(): boolean {
    return !this.#socket.destroyed && this.#socket.writable && performance.now() < this.#usableUntilMs;
  }

  /** From now on what was written may have arrived. */
  connected(): void {
    this.#connected = true;
  }

  /** `head`: the request's, whole. Rejects with the connection's error, or NotConnected. */
  exchange(head: string, body: Uint8Array | undefined, signal: AbortSignal | undefined): Promise<PoolResponse> {
    return new Promise((resolve, reject) => {
      const read = new AnswerBody(this.#socket);
      this.#exchange = { answer: new HttpAnswer(), body: read, resolve, reject, signal };
      signal?.addEventListener('abort', this.#abort, { once: true });
      // One piece: gathering two costs more than copying a prompt.
      const bytes = Buffer.allocUnsafe(head.length + (body?.length ?? 0));
      bytes.write(head, 'latin1');
      if (body) bytes.set(body, head.length);
      this.#socket.write(bytes);
    });
  }

  destroy(error?: Error): void {
    this.#error ??= error ?? null;
    this.#socket.destroy();
  }

  readonly #abort = () => this.destroy(new Error('aborted'));

  #data(bytes: Buffer): void {
    const exchange = this.#exchange;
    if (!exchange) {
      this.destroy(new Error('bytes came that nobody asked for'));
      return;
    }
    const { answer, body, resolve } = exchange;
    try {
      const begun = answer.head !== null;
      const pieces = answer.push(bytes);
      if (!begun && answer.head) {
        const { status, headers } = answer.head;
        const get = (name: string) => headers.get(name) ?? null;
        resolve({ ok: status >= 200 && status < 300, status, headers: { get }, body });
      }
      body.add(pieces);
      if (answer.over) this.#finish(exchange);
    } catch (error) {
      this.destroy(error instanceof Error ? error : undefined);
    }
  }

  #ended(): void {
    const exchange = this.#exchange;
    if (!exchange) return;
    try {
      exchange.answer.end();
      this.#finish(exchange);
    } catch (error) {
      this.destroy(error instanceof Error ? error : undefined);
    }
  }

  #finish({ answer, body, signal }: Exchange): void {
    signal?.removeEventListener('abort', this.#abort);
    this.#exchange = null;
    body.end();
    const seconds = /timeout=(\d{1,9})/.exec(answer.head?.headers.get('keep-alive') ?? '')?.[1];
    if (seconds !== undefined) this.#usableUntilMs = performance.now() + Number(seconds) * 1000 - CLOSE_MARGIN_MS;
    // Where the request was answered before all of it had left, the next one would wait behind the rest.
    if (answer.reusable && this.#socket.writableLength === 0) this.#events.idle();
    else this.destroy();
  }

  #fail(error: Error): void {
    if (!this.#exchange) return;
    const { body, signal, reject } = this.#exchange;
    signal?.removeEventListener('abort', this.#abort);
    this.#exchange = null;
    reject(this.#connected ? error : new NotConnected(error));
    body.fail(error);
  }
}

/** What has come and was not read yet. To be read once; what came since the last time comes together. */
class AnswerBody implements AsyncIterableIterator<Uint8Array> {
  readonly #socket: Socket;
  #pieces: Buffer[] = [];
  #bytes = 0;
  #over = false;
  #error: Error | null = null;
  #waiting: { resolve(result: IteratorResult<Uint8Array>): void; reject(error: Error): void } | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  add(pieces: readonly Buffer[]): void {
    for (const piece of pieces) {
      this.#pieces.push(piece);
      this.#bytes += piece.length;
    }
    if (this.#bytes > MAX_UNREAD_BYTES) this.#socket.pause();
    this.#tell();
  }

  end(): void {
    this.#over = true;
    // Between exchanges it is heard when the pool closes it.
    this.#socket.resume();
    this.#tell();
  }

  fail(error: Error): void {
    this.#error = error;
    this.#tell();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#tell();
    });
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    if (!this.#over && !this.#error) this.#socket.destroy();
    this.#pieces = [];
    this.#over = true;
    return { done: true, value: undefined };
  }

  #tell(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    const [first] = this.#pieces;
    if (first) {
      const value = this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces);
      if (this.#bytes > MAX_UNREAD_BYTES) this.#socket.resume();
      this.#pieces = [];
      this.#bytes = 0;
      waiting.resolve({ done: false, value });
    } else if (this.#error) waiting.reject(this.#error);
    else if (this.#over) waiting.resolve({ done: true, value: undefined });
    else return;
    this.#waiting = null;
  }
}
