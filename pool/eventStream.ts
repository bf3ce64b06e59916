// An answer of many parts, such as that of an inference request: server-sent events, each signed with its place in the stream, so that none can be dropped,
// swapped or added on the way. What is sent in one go (a step's tokens of a request, its last ones with the receipt) leaves as one event of
// several data lines, under one signature. It never waits for a slow reader; a reader that stays behind too far is given up.
import type { PoolEvent } from './wire/events.ts';
import { type SigningSecret, signEvent } from './wire/signing.ts';

/** Bytes kept for a reader that is behind: a scored prompt of 8k tokens with 20 alternatives is about 16 MB. */
export const MAX_BUFFERED_BYTES = 64 * 2 ** 20;

/** Past this, what is sent in one go leaves in several events: each is signed, parsed and bounded whole. */
const MAX_EVENT_CHARS = 64 * 1024;

/** A server-sent event's comment: means nothing but that this end lives. It needs no signature, for nothing is done with it. */
const PULSE = new TextEncoder().encode(':\n\n');

export interface EventSink<E = PoolEvent> {
  send(event: E): void;
  end(): void;
}

export class EventStream<E = PoolEvent> implements EventSink<E> {
  readonly body: ReadableStream<Uint8Array>;
  readonly #secret: SigningSecret;
  readonly #nonce: string;
  readonly #onAbandoned: () => void;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #sequence = 0;
  #lines: string[] = [];
  #chars = 0;
  #quiet = false;

  /** `onAbandoned`: the reader is gone or too slow; called at most once, never after `end`. */
  constructor(
    secret: SigningSecret,
    nonce: string,
    onAbandoned: () => void,
    maxBufferedBytes: number = MAX_BUFFERED_BYTES,
  ) {
    this.#secret = secret;
    this.#nonce = nonce;
    this.#onAbandoned = onAbandoned;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        cancel: () => this.abandon(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: maxBufferedBytes }),
    );
  }

  get over(): boolean {
    return this.#controller === null;
  }

  /** A sign of life, where nothing has left since the last call. */
  pulse(): void {
    if (this.#quiet) this.#controller?.enqueue(PULSE);
    this.#quiet = true;
  }

  /** Leaves once the caller has sent what it has to send now. */
  send(event: E): void {
    if (!this.#controller) return;
    if (this.#lines.length === 0) queueMicrotask(() => this.#flush());
    const line = JSON.stringify(event);
    this.#lines.push(line);
    this.#chars += line.length;
    if (this.#chars >= MAX_EVENT_CHARS) this.#flush();
  }

  #flush(): void {
    const controller = this.#controller;
    if (!controller || this.#lines.length === 0) return;
    const id = signEvent(this.#secret, this.#nonce, this.#sequence++, this.#lines.join('\n'));
    controller.enqueue(this.#encoder.encode(`id: ${id}\ndata: ${this.#lines.join('\ndata: ')}\n\n`));
    this.#lines = [];
    this.#chars = 0;
    this.#quiet = false;
    if ((controller.desiredSize ?? 1) <= 0) {
      controller.error(new Error('the reader of this stream is too slow'));
      this.abandon();
    }
  }

  end(): void {
    this.#flush();
    this.#controller?.close();
    this.#controller = null;
  }

  /** The reader is gone; safe to repeat. */
  abandon(): void {
    if (!this.#controller) return;
    this.#controller = null;
    this.#onAbandoned();
  }
}

/** The answer; its reader leaving abandons the stream. */
export function streamed<E>(stream: EventStream<E>, signal: AbortSignal): Response {
  if (signal.aborted) stream.abandon();
  else signal.addEventListener('abort', () => stream.abandon(), { once: true });
  return new Response(stream.body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
  });
}
