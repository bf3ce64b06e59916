// The client's side of a relay: one JSON answer, or a stream of chunks that takes from the pool only what the client takes from it.
// A stream begins when the pool has accepted the request; what fails before has its own status, what fails after is an error event.
import type { Clock } from '../clock.ts';
import { GatewayError, internalError } from '../errors.ts';
import { errorFields, type Log } from '../log.ts';
import type { RelayEvent } from './relay.ts';
import { type Collector, type Shaper, SSE_DONE, SSE_SILENCE, sseData, sseError, usageOf } from './shape.ts';
import { Silence } from './silence.ts';

export async function respondWhole(
  events: AsyncGenerator<RelayEvent, void, void>,
  collector: Collector,
  headers: Record<string, string>,
): Promise<Response> {
  for await (const event of events) {
    if (event.type !== 'end') {
      collector.add(event);
      continue;
    }
    collector.add(event.done);
    return Response.json({ ...collector.answer(), usage: usageOf(event.bill, event.done.usage) }, { headers });
  }
  throw new Error('a relay ends with its bill or throws');
}

export interface StreamOptions {
  requestId: string;
  includeUsage: boolean;
  headers: Record<string, string>;
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
  events: AsyncGenerator<RelayEvent, void, void>,
  shaper: Shaper,
  options: StreamOptions,
): Promise<Response> {
  const { includeUsage, abort, log, requestId } = options;
  const first = await events.next();
  let asked: Promise<IteratorResult<RelayEvent, void>> | null = Promise.resolve(first);
  const silence = new Silence(options.clock, options.keepAliveMs);
  const finished = () => {
    silence.stop();
    options.finished();
  };
  const chunk = (value: object) => sseData(includeUsage ? { ...value, usage: null } : value);

  /** Sends at least one chunk, unless the stream is over. */
  async function pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (;;) {
      asked ??= events.next();
      const got = await silence.or(asked);
      if (!got) return controller.enqueue(SSE_SILENCE);
      asked = null;
      const event = got.value;
      if (!event) return controller.close();
      const chunks = shaper.chunks(event.type === 'end' ? event.done : event);
      for (const one of chunks) controller.enqueue(chunk(one));
      if (event.type === 'end') {
        // The relay's last steps can't change the answer any more. They come before its end, so that whoever has read the end finds
        // the place free that this request took.
        await events.return().catch((error: unknown) => log.error('relay_failed', errorFields(error)));
        finished();
        if (includeUsage)
          controller.enqueue(sseData({ ...shaper.usageChunk(), usage: usageOf(event.bill, event.done.usage) }));
        controller.enqueue(SSE_DONE);
        return controller.close();
      }
      if (chunks.length > 0) return;
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
          controller.enqueue(sseError(told.body()));
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
  return new Response(body, {
    headers: {
      ...options.headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    },
  });
}
