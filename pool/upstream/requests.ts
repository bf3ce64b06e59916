// The running requests of a pool whose engine is a foreign server. The order on which the bill rests is the native pool's: what a batch of
// the upstream's stream releases is journalled, and only then do its events leave. However a request ends, it ends here, once: by the
// stream's end, at its deadline, with its reader, or with the pool; and with it the connection to the upstream.
//
//   asked ─ 200 ─▶ journal: start ─▶ prompt, as soon as it is told ─▶ per batch: tally ─▶ journal ─▶ events ─▶ end ─▶ receipt
import {
  deadlineExceeded,
  duplicateRequest,
  gatewaySilent,
  internalError,
  overloaded,
  PoolError,
  requestClosed,
} from '../errors.ts';
import type { EventSink } from '../eventStream.ts';
import type { Failure } from '../generation.ts';
import { type Journal, JournalUnavailable } from '../journal.ts';
import { errorText, type Log } from '../log.ts';
import type { PoolMetrics } from '../metrics.ts';
import type { Grant, Inference } from '../plan.ts';
import type { JournalRecord } from '../receipts.ts';
import { RESUMABLE } from '../requests.ts';
import { type PoolEvent, positionsOf } from '../wire/events.ts';
import { type Connection, UpstreamFailed } from './connection.ts';
import { asPoolError, isFailure, upstreamLost } from './errors.ts';
import type { Make } from './make.ts';
import { eventsOf, lastWord, type Running, startRecord, toldRecord } from './running.ts';
import { Tally } from './tally.ts';
import type { Translated, UpstreamModel } from './translate.ts';

const RETRY_AFTER_MS = 1000;
/** Longest timer of Node: 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface UpstreamRequestsOptions {
  make: Make;
  connection: Connection;
  journal: Journal;
  metrics: PoolMetrics;
  poolId: string;
  maxReceipts: number;
  /** At the upstream at once; past it a request is refused. */
  maxRequests: number;
  /** Exact tokens of a request's prompts, where its stream doesn't tell them and a route does; null: they come with the stream, or its end. */
  countPrompt: (model: UpstreamModel, inference: Inference, signal: AbortSignal) => Promise<number | null>;
  /** The same, by whatever way there is: for one that ends without usage. */
  countLate: (model: UpstreamModel, inference: Inference) => Promise<number>;
  /** A model has brought a token, or something failed it. */
  onProof: (model: string) => void;
  onFailure: (model: string) => void;
  now: () => number;
  log: Log;
}

export class UpstreamRequests {
  readonly #options: UpstreamRequestsOptions;
  readonly #running = new Map<string, Running>();
  readonly #idle: (() => void)[] = [];
  #closed: PoolError | null = null;

  constructor(options: UpstreamRequestsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#running.size;
  }

  ofModel(model: string): number {
    return [...this.#running.values()].filter((running) => running.model.id === model).length;
  }

  /** Asks the upstream. Resolves when it has taken the request on; throws PoolError when it, or this pool, refuses. */
  async start(
    model: UpstreamModel,
    inference: Inference,
    asked: Translated,
    grant: Grant,
    sink: EventSink,
  ): Promise<void> {
    this.#refuse(grant.requestId, inference.request.anew === true);
    const startedAtMs = this.#options.now();
    if (startedAtMs >= grant.deadlineMs) throw deadlineExceeded();
    const running: Running = {
      ...{ model, inference, asked, grant, sink, startedAtMs },
      tally: new Tally({ ...asked, holdTokens: grant.holdTokens }),
      ...{ handle: null, begun: false, sawOutput: false, failure: null, ended: false },
      stop: new AbortController(),
      deadline: setTimeout(
        () => this.#fail(running, { error: deadlineExceeded(), outcome: 'cancelled' }),
        Math.min(grant.deadlineMs - startedAtMs, MAX_TIMER_MS),
      ),
    };
    this.#running.set(grant.requestId, running);
    const { path, body } = asked;
    const { signal } = running.stop;
    const { connection, countPrompt } = this.#options;
    const counting = countPrompt(model, inference, signal).catch(() => null);
    try {
      const batches = await connection.stream({ method: 'POST', path, body, signal });
      this.#begin(running);
      void this.#pump(running, batches, counting);
    } catch (error) {
      throw this.#refused(running, error);
    }
  }

  /** The client is gone. Unknown or ended: nothing happens. */
  abort(requestId: string): void {
    const running = this.#running.get(requestId);
    if (running) this.#fail(running, { error: requestClosed(), outcome: 'cancelled' });
  }

  /** The same, where the way to the gateway seems to be cut: it may have taken the request to another pool. */
  lose(requestId: string): void {
    const running = this.#running.get(requestId);
    if (running) this.#fail(running, { error: gatewaySilent(), outcome: 'failed' });
  }

  /** From now on every new request is refused with this error. */
  close(error: PoolError): void {
    this.#closed = error;
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Ends all with this failure, receipts included: at once, with what is known. */
  failAll(failure: Failure): void {
    for (const running of [...this.#running.values()]) {
      this.#fail(running, failure);
      if (running.handle !== null) this.#end(running, running.failure ?? failure);
    }
  }

  #refuse(requestId: string, anew: boolean): void {
    const { journal, maxReceipts, maxRequests } = this.#options;
    if (this.#closed) throw this.#closed;
    if (!journal.healthy) throw internalError(requestId);
    const earlier = journal.book.get(requestId);
    if (this.#running.has(requestId) || (earlier && !(anew && RESUMABLE.has(earlier.outcome))))
      throw duplicateRequest(requestId);
    if (this.#running.size >= maxRequests)
      throw overloaded('As many requests as may be are at the engine behind this pool.', RETRY_AFTER_MS);
    if (!earlier && journal.book.size >= maxReceipts)
      throw overloaded('Too many receipts wait for acknowledgement by the gateway.', RETRY_AFTER_MS);
  }

  /** The upstream has not taken it on, or this pool can't account for it. */
  #refused(running: Running, error: unknown): PoolError {
    const { model, grant, failure } = running;
    this.#forget(running);
    running.stop.abort();
    if (failure) return failure.error;
    if (error instanceof JournalUnavailable) return internalError(grant.requestId);
    if (isFailure(error)) this.#options.onFailure(model.id);
    const refusal = asPoolError(error);
    if (refusal.wire.status >= 500)
      this.#options.log('warn', 'upstream_refused', { request_id: grant.requestId, error: errorText(error) });
    return refusal;
  }

  #begin(running: Running): void {
    const { journal, poolId } = this.#options;
    const handle = journal.book.nextHandle;
    journal.append([startRecord(running, handle, poolId)]);
    running.handle = handle;
  }

  /** Reads the upstream's stream to its end, or to that of the request. Never rejects. */
  async #pump(
    running: Running,
    batches: AsyncGenerator<string[], void, void>,
    counting: Promise<number | null>,
  ): Promise<void> {
    try {
      for await (const batch of batches) {
        if (running.ended || running.failure) return;
        if (!running.begun) {
          const counted = await counting;
          if (running.ended || running.failure) return;
          if (counted !== null) running.tally.notePrompt(counted);
        }
        this.#take(running, batch);
        if (running.tally.cut && running.tally.complete) break;
      }
      this.#finish(running);
    } catch (error) {
      this.#broke(running, error);
    }
  }

  /** Counts what came, journals it, and lets it leave. Throws what is wrong with it, behind that. */
  #take(running: Running, batch: readonly string[]): void {
    const { tally, sink } = running;
    const events: PoolEvent[] = [];
    let wrong: unknown = null;
    try {
      for (const data of batch) events.push(...eventsOf(this.#options.make, running, data));
    } catch (error) {
      wrong = error;
    }
    // Before there is something to tell the request may still begin elsewhere.
    if (!running.begun && events.length > 0) {
      running.begun = true;
      this.#options.metrics.promptTokens.add(tally.promptTokens ?? 0);
      events.unshift({ type: 'prompt', prompts: [], prompt_tokens: tally.promptTokens });
    }
    if (events.length > 0) {
      this.#options.journal.append([toldRecord(running, this.#options.now())]);
      for (const event of events) {
        if (event.type === 'delta') this.#noteOutput(running, positionsOf(event));
        sink.send(event);
      }
    }
    if (wrong !== null) throw wrong;
  }

  #noteOutput(running: Running, count: number): void {
    if (count === 0) return;
    const { metrics, onProof, now } = this.#options;
    metrics.outputTokens.add(count);
    onProof(running.model.id);
    if (running.sawOutput) return;
    running.sawOutput = true;
    metrics.ttftSeconds.observe((now() - running.startedAtMs) / 1000);
  }

  /** The stream is over. */
  #finish(running: Running): void {
    if (running.ended || running.failure) return;
    if (running.tally.complete) void this.#endCounted(running, null);
    else this.#broke(running, new UpstreamFailed('its stream ended before the answer did'));
  }

  #broke(running: Running, error: unknown): void {
    if (running.ended || running.failure) return; // it was this pool that hung up
    const { log, onFailure } = this.#options;
    const { requestId } = running.grant;
    if (error instanceof JournalUnavailable) {
      log('error', 'journal_unavailable', { error: error.message });
      this.#fail(running, { error: internalError(requestId), outcome: 'failed' });
      return;
    }
    const known = error instanceof UpstreamFailed || error instanceof PoolError;
    log(known ? 'warn' : 'error', known ? 'upstream_broke' : 'request_failed', {
      request_id: requestId,
      error: errorText(error),
    });
    onFailure(running.model.id);
    const told = error instanceof PoolError ? error : known ? upstreamLost() : internalError(requestId);
    this.#fail(running, { error: told, outcome: 'failed' });
  }

  #fail(running: Running, failure: Failure): void {
    if (running.ended || running.failure) return;
    running.failure = failure;
    running.stop.abort();
    // Before the upstream has answered nothing is journalled, and `start` throws.
    if (running.handle !== null) void this.#endCounted(running, failure);
  }

  /**
   * A prompt that nobody has told is counted before the bill is made: a client could else leave before the usage comes, and have every prompt
   * for nothing. Where it can't be, it stays nothing, and an estimate.
   */
  async #endCounted(running: Running, failure: Failure | null): Promise<void> {
    const { model, inference, tally } = running;
    const free = failure?.outcome === 'failed' && tally.usage.completion_tokens === 0;
    if (tally.promptTokens === null && !free) {
      const counted = await this.#options.countLate(model, inference).catch(() => null);
      if (counted !== null) tally.notePrompt(counted);
    }
    this.#end(running, failure);
  }

  /** Journals the end, tells it, and is done with it. What the journal does not take is what it had before. */
  #end(running: Running, failure: Failure | null): void {
    const { journal, metrics, now } = this.#options;
    const { handle, grant, sink, tally } = running;
    if (running.ended) return;
    const end: JournalRecord = {
      ...{ kind: 'end', handle: handle ?? 0, outcome: failure?.outcome ?? 'completed', timeMs: now() },
    };
    let told = failure;
    try {
      journal.append([toldRecord(running, now()), end]);
    } catch (error) {
      if (!(error instanceof JournalUnavailable)) throw error;
      told ??= { error: internalError(grant.requestId), outcome: 'failed' };
      journal.applyUnrecorded([{ ...end, outcome: told.outcome }]);
    }
    this.#forget(running);
    const receipt = journal.book.get(grant.requestId);
    metrics.requests.add(1, receipt?.outcome ?? 'failed');
    metrics.cachedTokens.add(receipt?.cached_tokens ?? 0);
    if (!told && !running.begun) sink.send({ type: 'prompt', prompts: [], prompt_tokens: tally.promptTokens });
    if (told) sink.send({ type: 'error', error: lastWord(told.error, running), ...(receipt && { receipt }) });
    else if (receipt) sink.send({ type: 'done', usage: tally.usage, receipt });
    sink.end();
  }

  #forget(running: Running): void {
    running.ended = true;
    clearTimeout(running.deadline);
    this.#running.delete(running.grant.requestId);
    if (this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }
}
