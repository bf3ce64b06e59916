// All running requests of the process. It enforces the order on which the bill rests: the engine's step is staged for every request
// it touched, journalled in one append, and only then do its events leave. A request that ends, however it ends, ends here, once.
//
//   engine step ─▶ stage (per request) ─▶ one journal append ─▶ events leave ─▶ sequences that are over are cancelled
import type { SequenceOutput, SequenceRequest } from '../engine/request.ts';
import type { EnginePort, EngineStep } from './engineClient.ts';
import type { TakeAnswer } from './engineMessages.ts';
import {
  deadlineExceeded,
  duplicateRequest,
  gatewaySilent,
  internalError,
  overloaded,
  type PoolError,
  refusalError,
  requestClosed,
} from './errors.ts';
import type { EventSink } from './eventStream.ts';
import { type Failure, Generation } from './generation.ts';
import { type Journal, JournalUnavailable } from './journal.ts';
import { errorText, type Log } from './log.ts';
import type { PoolMetrics } from './metrics.ts';
import type { Grant, Plan } from './plan.ts';
import type { JournalRecord } from './receipts.ts';
import { sequencesOf } from './sequences.ts';
import type { PoolModel } from './servedModel.ts';
import { type Journalled, startRecord, stepRecords } from './stepRecords.ts';
import type { Outcome, Receipt } from './wire/events.ts';

/** A gateway that asks again while the pool drains or its ledger lags: often enough to notice, seldom enough not to hurt. */
const RETRY_AFTER_MS = 1000;

/** A request that ended like this may be taken up where it ended: its receipt is then part of the new one. */
export const RESUMABLE: ReadonlySet<Outcome> = new Set(['lost', 'failed', 'cancelled']);

/** Longest timer of Node: 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface RequestsOptions {
  engine: EnginePort;
  journal: Journal;
  metrics: PoolMetrics;
  poolId: string;
  maxReceipts: number;
  /** A request of this engine has ended. */
  onEnded: (engine: string) => void;
  now: () => number;
  log: Log;
}

interface Running extends Journalled {
  sink: EventSink;
  startedAtMs: number;
  sawOutput: boolean;
  deadline: NodeJS.Timeout;
  taken: PromiseWithResolvers<void>;
}

export class Requests {
  readonly #options: RequestsOptions;
  readonly #running = new Map<string, Running>();
  readonly #bySequence = new Map<string, Running>();
  readonly #byEngine = new Map<string, number>();
  readonly #idle: (() => void)[] = [];
  #serial = 0;
  #closed: PoolError | null = null;

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#running.size;
  }

  /** Requests that the engine has. */
  ofEngine(engine: string): number {
    return this.#byEngine.get(engine) ?? 0;
  }

  /** Hands the plan to the engine. Resolves when it is taken and its first event is sent; throws PoolError when it is refused. */
  start(model: PoolModel, plan: Plan, grant: Grant, sink: EventSink): Promise<void> {
    this.#refuse(grant.requestId, plan.resumed);
    const startedAtMs = this.#options.now();
    if (startedAtMs >= grant.deadlineMs) throw deadlineExceeded();
    const sequences = sequencesOf(plan, grant, model.text.eosIds, this.#serial++);
    const running: Running = {
      generation: new Generation(model, plan, grant, sequences),
      sink,
      startedAtMs,
      handle: null,
      sawOutput: false,
      deadline: setTimeout(() => this.#expire(running), Math.min(grant.deadlineMs - startedAtMs, MAX_TIMER_MS)),
      taken: Promise.withResolvers<void>(),
    };
    this.#running.set(grant.requestId, running);
    this.#byEngine.set(model.engine, this.ofEngine(model.engine) + 1);
    for (const { id } of sequences.values()) this.#bySequence.set(id, running);
    this.#submit(running, [...sequences.values()]);
    return running.taken.promise;
  }

  /** The client is gone: nothing more is computed or released for it. Unknown or ended: nothing happens. */
  abort(requestId: string): void {
    this.#end(requestId, { error: requestClosed(), outcome: 'cancelled' });
  }

  /** The same, where the way to the gateway seems to be cut: it may have taken the request to another pool. */
  lose(requestId: string): void {
    this.#end(requestId, { error: gatewaySilent(), outcome: 'failed' });
  }

  #end(requestId: string, failure: Failure): void {
    const running = this.#running.get(requestId);
    if (!running) return;
    running.generation.fail(failure);
    this.#commit([running]);
  }

  /** From now on every new request is refused with this error. */
  close(error: PoolError): void {
    this.#closed = error;
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.#running.size > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Ends all with this failure, receipts included. */
  failAll(failure: Failure): void {
    const all = [...this.#running.values()];
    for (const running of all) running.generation.fail(failure);
    this.#commit(all);
  }

  onStep({ outputs }: EngineStep): void {
    const touched = new Set<Running>();
    const abandoned: [Running, string[]][] = [];
    for (const output of outputs) {
      const running = this.#bySequence.get(output.id);
      if (!running) continue; // late: it ended while this step was computed
      touched.add(running);
      abandoned.push([running, this.#stage(running, output)]);
    }
    this.#commit([...touched]);
    for (const [{ generation }, ids] of abandoned) this.#options.engine.cancel(generation.model.id, ids);
  }

  #refuse(requestId: string, resumed: boolean): void {
    const { journal, maxReceipts } = this.#options;
    if (this.#closed) throw this.#closed;
    if (!journal.healthy) throw internalError(requestId);
    const earlier = journal.book.get(requestId);
    if (this.#running.has(requestId) || (earlier && !(resumed && RESUMABLE.has(earlier.outcome))))
      throw duplicateRequest(requestId);
    if (!earlier && journal.book.size >= maxReceipts)
      throw overloaded('Too many receipts wait for acknowledgement by the gateway.', RETRY_AFTER_MS);
  }

  #submit(running: Running, sequences: SequenceRequest[]): void {
    const { engine } = this.#options;
    if (sequences.length === 0) {
      this.#taken(running);
      return;
    }
    const { model, grant } = running.generation;
    engine.submit(model.id, sequences, (answer) => {
      if (this.#running.get(grant.requestId) !== running) return; // aborted while the engine thought about it
      if (answer.kind === 'taken') this.#taken(running);
      else this.#refused(running, answer);
    });
  }

  #refused(running: Running, answer: Exclude<TakeAnswer, { kind: 'taken' }>): void {
    const { requestId } = running.generation.grant;
    this.#forget(running);
    if (answer.kind === 'bug')
      this.#options.log('error', 'engine_refused', { request_id: requestId, error: answer.message });
    running.taken.reject(answer.kind === 'bug' ? internalError(requestId) : refusalError(answer.refusal));
  }

  #taken(running: Running): void {
    const { journal, metrics, poolId } = this.#options;
    const { generation } = running;
    running.handle = journal.book.nextHandle;
    generation.stageStart();
    metrics.promptTokens.add(generation.plan.promptTokens);
    if (generation.plan.resumed) metrics.resumed.add(1);
    this.#commit([running], [startRecord(generation, running.handle, poolId, running.startedAtMs)]);
    running.taken.resolve();
  }

  /** The engine ends sequences at their deadline, too; this holds also while a step takes long. */
  #expire(running: Running): void {
    running.generation.fail({ error: deadlineExceeded(), outcome: 'cancelled' });
    this.#commit([running]);
  }

  /** One request's bug is one request's failure. */
  #stage(running: Running, output: SequenceOutput): string[] {
    const { generation } = running;
    const { now, log } = this.#options;
    try {
      if (now() >= generation.grant.deadlineMs) {
        generation.fail({ error: deadlineExceeded(), outcome: 'cancelled' });
        return [];
      }
      this.#note(running, output);
      return generation.stage(output);
    } catch (error) {
      log('error', 'request_failed', { request_id: generation.grant.requestId, error: errorText(error) });
      generation.discard({ error: internalError(generation.grant.requestId), outcome: 'failed' });
      return [];
    }
  }

  #note(running: Running, output: SequenceOutput): void {
    if (output.ids.length === 0 || running.sawOutput) return;
    running.sawOutput = true;
    this.#options.metrics.ttftSeconds.observe((this.#options.now() - running.startedAtMs) / 1000);
  }

  /** Journals what is staged in one append, then lets the events leave and closes what is over. */
  #commit(touched: readonly Running[], first: readonly JournalRecord[] = []): void {
    const records = [...first, ...stepRecords(touched, this.#options.now())];
    try {
      this.#options.journal.append(records);
    } catch (error) {
      if (!(error instanceof JournalUnavailable)) throw error;
      this.#journalLost(error);
      return;
    }
    for (const running of touched) this.#send(running);
  }

  #send(running: Running): void {
    for (const event of running.generation.takeEvents()) {
      if (event.type === 'delta') this.#options.metrics.outputTokens.add(event.ids.length);
      running.sink.send(event);
    }
    if (running.generation.finished) this.#finish(running);
  }

  /** Nothing can be accounted for, so nothing is released: all end with what the journal had before. */
  #journalLost(error: JournalUnavailable): void {
    const { journal, log, now } = this.#options;
    log('error', 'journal_unavailable', { error: error.message });
    for (const running of [...this.#running.values()]) {
      const { generation, handle } = running;
      const cause = generation.failure?.outcome === 'cancelled' ? generation.failure : null;
      generation.discard(cause ?? { error: internalError(generation.grant.requestId), outcome: 'failed' });
      if (handle !== null && this.#receiptOf(running))
        journal.applyUnrecorded([
          { kind: 'end', handle, outcome: generation.failure?.outcome ?? 'failed', timeMs: now() },
        ]);
      this.#finish(running);
    }
  }

  #finish(running: Running): void {
    const { generation, sink } = running;
    if (this.#running.get(generation.grant.requestId) !== running) return; // its reader left while its last events were sent
    const { engine, metrics } = this.#options;
    const receipt = this.#receiptOf(running);
    this.#forget(running);
    engine.cancel(generation.model.id, generation.liveSequences);
    const { failure } = generation;
    metrics.requests.add(1, receipt?.outcome ?? failure?.outcome ?? 'failed');
    if (receipt) metrics.cachedTokens.add(receipt.cached_tokens - generation.plan.billed.cachedTokens);
    if (failure) running.taken.reject(failure.error);
    if (failure) sink.send({ type: 'error', error: failure.error.wire, ...(receipt && { receipt }) });
    else if (receipt) sink.send({ type: 'done', usage: generation.usage, receipt });
    sink.end();
  }

  /** Undefined before it is taken, and where that could not be recorded: what the journal has then is of an earlier life. */
  #receiptOf({ generation, handle }: Running): Receipt | undefined {
    const { book } = this.#options.journal;
    const { requestId } = generation.grant;
    return handle !== null && book.handleOf(requestId) === handle ? book.get(requestId) : undefined;
  }

  #forget(running: Running): void {
    clearTimeout(running.deadline);
    const { grant, model } = running.generation;
    if (this.#running.get(grant.requestId) === running) {
      this.#running.delete(grant.requestId);
      this.#byEngine.set(model.engine, this.ofEngine(model.engine) - 1);
      this.#options.onEnded(model.engine);
    }
    for (const id of running.generation.sequenceIds) this.#bySequence.delete(id);
    if (this.#running.size === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }
}
