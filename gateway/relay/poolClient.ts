// What the gateway asks of a pool, each as one signed exchange with a checked answer.
import { z } from 'zod';
import {
  countAnswer,
  fenceAnswer,
  isPrompt,
  isTextDelta,
  type PoolEvent,
  type PoolStatus,
  poolEvent,
  poolStatus,
  type Receipt,
  receiptsAnswer,
} from '../../pool/wire/events.ts';
import type {
  ChatRequest,
  CompletionRequest,
  PoolChatRequest,
  PoolCompletionRequest,
} from '../../pool/wire/inference.ts';
import {
  type PrefixDeclaration,
  type PrefixReport,
  type PrefixSet,
  prefixSetAnswer,
  renderAnswer,
} from '../../pool/wire/publicPrefixes.ts';
import { verifyEvent } from '../../pool/wire/signing.ts';
import { SseLineTooLong, SseParser } from '../../pool/wire/sse.ts';
import { type Clock, within } from '../clock.ts';
import {
  broken,
  type Grant,
  type PoolPorts,
  PoolRequestError,
  type PoolTarget,
  readAnswer,
  type Sent,
  send,
} from './poolRequest.ts';

/** An administrative question that takes longer has no answer: the pool counts as unreachable. */
const ASK_TIMEOUT_MS = 5000;

/** The end of an answer comes with its last event, or right behind it. One that doesn't is not waited for. */
const END_WITHIN_MS = 500;

export type Inference = { kind: 'chat'; request: ChatRequest } | { kind: 'completion'; request: CompletionRequest };

/** As a pool is asked: it may have been begun before. */
export type PoolInference =
  | { kind: 'chat'; request: PoolChatRequest }
  | { kind: 'completion'; request: PoolCompletionRequest };

export const INFERENCE_PATH = { chat: '/v1/chat/completions', completion: '/v1/completions' } as const;

export interface RunningRequest {
  signedAtMs: number;
  /** In the batches that they came in. */
  events: AsyncGenerator<PoolEvent[], void, void>;
}

export class PoolClient {
  readonly target: PoolTarget;
  readonly #ports: PoolPorts;

  constructor(target: PoolTarget, ports: PoolPorts) {
    this.target = target;
    this.#ports = ports;
  }

  /**
   * Starts an inference. Throws PoolRequestError when it does not begin; so does the generator of its events when the stream breaks
   * before `done` or `error`, or an event is not signed in its place. Ending the generator early aborts the request. `heard`: bytes of the
   * stream came, be it only a comment.
   */
  async infer(
    inference: PoolInference,
    grant: Grant,
    signal: AbortSignal,
    heard: () => void = () => {},
  ): Promise<RunningRequest> {
    const path = INFERENCE_PATH[inference.kind];
    const sent = await send(this.#ports, this.target, { method: 'POST', path, body: inference.request, grant, signal });
    const type = sent.response.headers.get('content-type') ?? '';
    if (!sent.response.ok || !type.startsWith('text/event-stream')) {
      await readAnswer(this.target, sent, z.never());
      throw broken('the pool did not answer with events');
    }
    return { signedAtMs: sent.signedAtMs, events: readEvents(this.target, sent, this.#ports.clock, heard) };
  }

  async count(
    question: Pick<ChatRequest, 'model' | 'messages'> | Pick<CompletionRequest, 'model' | 'prompt'>,
  ): Promise<number[]> {
    return (await this.#ask('POST', '/pool/count', countAnswer, question)).prompt_tokens;
  }

  status(): Promise<PoolStatus> {
    return this.#ask('GET', '/pool/status', poolStatus);
  }

  /** In place of all that were public there. */
  setPublicPrefixes(set: PrefixSet): Promise<{ digest: string; prefixes: PrefixReport[] }> {
    return this.#ask('PUT', '/pool/public_prefixes', prefixSetAnswer, set);
  }

  /** Tokens that prompts with this beginning share; refused (400) where that is less than a block. */
  async renderPrefix(declaration: PrefixDeclaration): Promise<number> {
    return (await this.#ask('POST', '/pool/public_prefixes/render', renderAnswer, declaration)).tokens;
  }

  /** Of requests that have ended, oldest end first, behind that of request `after` where it is still there. */
  receipts(limit: number, after?: string): Promise<{ receipts: Receipt[]; has_more: boolean }> {
    const behind = after === undefined ? '' : `&after=${encodeURIComponent(after)}`;
    return this.#ask('GET', `/pool/receipts?limit=${limit}${behind}`, receiptsAnswer);
  }

  /** What the pool knows of one request, also while it runs; undefined when it signs that it knows nothing. */
  async receiptOf(requestId: string): Promise<Receipt | undefined> {
    const path = `/pool/receipts?request_id=${encodeURIComponent(requestId)}`;
    try {
      return (await this.#ask('GET', path, receiptsAnswer)).receipts.find((one) => one.request_id === requestId);
    } catch (error) {
      if (error instanceof PoolRequestError && error.failure.kind === 'refused' && error.failure.error.status === 404)
        return undefined;
      throw error;
    }
  }

  /** True: the pool signs that it neither has the request nor takes it any more. False also where it doesn't answer that. */
  async fence(requestId: string): Promise<boolean> {
    try {
      return (await this.#ask('POST', '/pool/fence', fenceAnswer, { request_id: requestId })).fenced;
    } catch (error) {
      if (error instanceof PoolRequestError) return false;
      throw error;
    }
  }

  async acknowledge(requestIds: readonly string[]): Promise<void> {
    await this.#ask('DELETE', '/pool/receipts', z.unknown(), { request_ids: requestIds });
  }

  async #ask<T>(method: string, path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const sent = await send(this.#ports, this.target, { method, path, body, signal });
    return readAnswer(this.target, sent, schema);
  }
}

/** What came together, together. */
async function* readEvents(
  pool: PoolTarget,
  { response, nonce }: Sent,
  clock: Clock,
  heard: () => void,
): AsyncGenerator<PoolEvent[], void, void> {
  const parser = new SseParser();
  let sequence = 0;
  let last: PoolEvent[] | null = null;
  const pieces = response.body?.[Symbol.asyncIterator]();
  try {
    for (let piece = await pieces?.next(); piece && !piece.done; piece = await pieces?.next()) {
      heard();
      const events: PoolEvent[] = [];
      let wrong: unknown = null;
      try {
        for (const { id, data } of parser.push(piece.value)) {
          if (!verifyEvent(pool.secret, nonce, sequence++, data, id))
            throw broken(`event ${sequence} is not signed in its place`);
          for (const line of data.split('\n')) events.push(eventOf(line));
        }
      } catch (error) {
        wrong = error;
      }
      if (events.some(({ type }) => type === 'done' || type === 'error')) last = events;
      else if (events.length > 0) yield events;
      if (wrong) throw wrong;
      if (last) break;
    }
    // After its last event the answer's end is read as well: then the connection serves the next request.
    if (last && pieces) await within(END_WITHIN_MS, pieces.next(), clock);
  } catch (error) {
    if (error instanceof PoolRequestError) throw error;
    if (!last) throw broken(error instanceof SseLineTooLong ? error.message : 'the connection broke during the stream');
  } finally {
    // Of a stream that broke this fails as that did.
    const left = pieces?.return?.().catch(() => {});
    // Of an answer that never ends it doesn't, either, before the request is given up.
    if (!last) await left;
  }
  if (!last) throw broken('the stream ended before the request did');
  yield last;
}

function eventOf(line: string): PoolEvent {
  const value: unknown = JSON.parse(line);
  if (isTextDelta(value) || isPrompt(value)) return value;
  const event = poolEvent.safeParse(value);
  if (!event.success) throw broken('an event has another shape than this gateway knows');
  return event.data;
}
