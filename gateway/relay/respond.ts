// The client's side of a relay: one JSON answer, or a stream of chunks that takes from the pool only what the client takes from it.
// A stream begins when the pool has accepted the request; what fails before has its own status, what fails after is an error event.
import type { Clock } from '../clock.ts';
import { GatewayError, internalError } from '../errors.ts';
import { errorFields, type Log } from '../log.ts';
import type { Answer } from './answer.ts';
import type { RelayEvent } from './relay.ts';
import { SSE_SILENCE, sseText } from './shape.ts';
import { Silence } from './silence.ts';

/** Headers that an answer has besides those of its kind, asked for once it begins. */
type Headed = () => Record<string, string>;

export async function respondWhole(
  events: AsyncGenerator<RelayEvent[], void, void>,
  answer: Answer,
  headers: Headed,
): Promise<Response> {
  for await (const batch of events)
    for (const event of batch) {
      if (event.type === 'end') return jsonResponse(answer.end(event.done, event.bill), headers());
      answer.add(event);
    }
  throw new Error('a relay ends with its bill or throws');
}

/** `body`: a whole answer's, or all events of a stream. */
export function replay(body: Uint8Array, streamed: boolean, headers: Headed): Response {
  const told = { ...headers(), 'idempotent-replayed': 'true' };
  return streamed ? eventResponse(Buffer.from(body), told) : jsonResponse(Buffer.from(body), told);
}

function jsonResponse(body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string>): Response {
  return new Response(body, { headers: { ...headers, 'content-type': 'application/json' } });
}

function eventResponse(
  body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
  headers: Record<string, string>,
): Response {
  return new Response(body, {
    headers: {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    },
  });
}

export interface StreamOptions {
  requestId: string;
  headers: Headed;
  log: Log;
  clock: Clock;
  /** A stream that says nothing for so long sends a comment. */
  keepAliveMs: number;
  /** Ends the request at the pool. */
  abort: () => void;
  /** Once, when nothing more is sent. */
  finished: () => void;
}

/** Resolves when the pool has accepted the request; throws GatewayError when it has not. */
export async function respondStreaming(
  events: AsyncGenerator<RelayEvent[], void, void>,
  answer: Answer,
  options: StreamOptions,
): Promise<Response> {
  const { abort, log, requestId } = options;
  const encoder = new TextEncoder();
  const first = await events.next();
  if (first.value?.at(-1)?.type === 'end') {
    // All of it is there: nothing to hold open.
    const whole = await tell(first.value, options.finished);
    return eventResponse(whole.text, options.headers());
  }
  let asked: Promise<IteratorResult<RelayEvent[], void>> | null = Promise.resolve(first);
  const silence = new Silence(options.clock, options.keepAliveMs);
  const finished = () => {
    silence.stop();
    options.finished();
  };

  /** What came together, as one piece of the stream. */
  async function tell(batch: readonly RelayEvent[], finish: () => void): Promise<{ text: string; over: boolean }> {
    let text = '';
    for (const event of batch) {
      if (event.type === 'end') {
        // The relay's last steps can't change the answer any more. They come before its end, so that whoever has read the end finds
        // the place free that this request took.
        await events.return().catch((error: unknown) => log.error('relay_failed', errorFields(error)));
        finish();
        return { text: text + answer.end(event.done, event.bill), over: true };
      }
      text += answer.add(event);
    }
    return { text, over: false };
  }

  /** Sends at least one piece, unless the stream is over. */
  async function pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (;;) {
      asked ??= events.next();
      const got = await silence.or(asked);
      if (!got) return controller.enqueue(encoder.encode(SSE_SILENCE));
      asked = null;
      if (!got.value) return controller.close();
      const { text, over } = await tell(got.value, finished);
      if (text !== '') controller.enqueue(encoder.encode(text));
      if (over) return controller.close();
      if (text !== '') return;
    }
  }

  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          await pull(controller);
        } catch (error) {
          if (!(error instanceof GatewayError))
            log.error('stream_failed', { request: requestId, ...errorFields(error) });
          const told = error instanceof GatewayError ? error : internalError(requestId);
          finished();
          controller.enqueue(encoder.encode(sseText(told.body())));
          controller.close();
        }
      },
      async cancel() {
        abort();
        // The relay may end with the error of the connection that was just cut: nobody is left to hear it.
        await events.return().catch(() => {});
        finished();
      },
    },
    { highWaterMark: 0 },
  );
  return eventResponse(body, options.headers());
}
