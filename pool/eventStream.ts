// An answer of many parts, such as that of an inference request: server-sent events, each signed with its place in the stream, so that none can be dropped,
// swapped or added on the way. It never waits for a slow reader; a reader that stays behind too far is given up.
import type { PoolEvent } from './wire/events.ts';
import { signEvent } from './wire/signing.ts';

/** Bytes kept for a reader that is behind: a scored prompt of 8k tokens with 20 alternatives is about 16 MB. */
export const MAX_BUFFERED_BYTES = 64 * 2 ** 20;

export interface EventSink<E = PoolEvent> {
  send(event: E): void;
  end(): void;
}

export class EventStream<E = PoolEvent> implements EventSink<E> {
  readonly body: ReadableStream<Uint8Array>;
  readonly #secret: Uint8Array;
  readonly #nonce: string;
  readonly #onAbandoned: () => void;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #sequence = 0;

  /** `onAbandoned`: the reader is gone or too slow; called at most once, never after `end`. */
  constructor(
    secret: Uint8Array,
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

  send(event: E): void {
    const controller = this.#controller;
    if (!controller) return;
    const data = JSON.stringify(event);
    const id = signEvent(this.#secret, this.#nonce, this.#sequence++, data);
    controller.enqueue(this.#encoder.encode(`id: ${id}\ndata: ${data}\n\n`));
    if ((controller.desiredSize ?? 1) <= 0) {
      controller.error(new Error('the reader of this stream is too slow'));
      this.abandon();
    }
  }

  end(): void {
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
