// The HTTP thread's face of the engine thread. Answers come by callback in the order of the messages, never by promise, so that a
// step can't overtake the news that its request was taken. When the thread dies, everything waiting hears of it exactly once.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { invariant } from '../engine/invariant.ts';
import type { EngineStatus, SequenceOutput, SequenceRequest } from '../engine/request.ts';
import type { BlockChanges } from './blockFeed.ts';
import type { EngineFigures } from './engineDetail.ts';
import type {
  DeviceWork,
  EngineOrder,
  EngineSetup,
  FromEngine,
  OrderDone,
  PreparedEngine,
  TakeAnswer,
  ToEngine,
} from './engineMessages.ts';
import type { EnginePrefixes } from './publicPrefixes.ts';

/** The engine thread is gone: device lost, a crash, or a model that could not be opened. */
export class EngineDown extends Error {
  override readonly name = 'EngineDown';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface EngineStep {
  engine: string;
  outputs: SequenceOutput[];
  elapsedMs: number;
  tokens: number;
}

/** What the pool's request handling needs of an engine; a test may stand in for the thread. */
export interface EnginePort {
  /** `onAnswer` is called later, before any output of these sequences. */
  submit(model: string, sequences: SequenceRequest[], onAnswer: (answer: TakeAnswer) => void): void;
  cancel(model: string, ids: string[]): void;
}

export interface EngineListeners {
  onProgress: (stage: string, done: number, total: number) => void;
  onStep: (step: EngineStep & { work: DeviceWork }) => void;
  onNotice: (message: string) => void;
  onBlocks: (engine: string, changes: BlockChanges) => void;
  /** An engine's device is gone; it can be woken. */
  onLost: (engine: string, error: EngineDown) => void;
  onDown: (error: EngineDown) => void;
}

export class EngineClient implements EnginePort {
  readonly #worker: Worker;
  readonly #listeners: EngineListeners;
  readonly #tickets = new Map<number, (answer: TakeAnswer) => void>();
  readonly #asked = new Map<number, (figures: EngineFigures[]) => void>();
  readonly #status = new Map<string, EngineStatus>();
  readonly #orders = new Map<number, PromiseWithResolvers<OrderDone>>();
  readonly #prepared = Promise.withResolvers<PreparedEngine[]>();
  readonly #gone = Promise.withResolvers<void>();
  #nextTicket = 0;
  #stopping = false;
  #down: EngineDown | null = null;

  constructor(workerFile: URL, setup: EngineSetup, listeners: EngineListeners) {
    this.#listeners = listeners;
    this.#prepared.promise.catch(() => {}); // a death before anyone waits is told by onDown
    // stdout is the supervisor's protocol: what a driver prints goes to stderr.
    this.#worker = new Worker(workerFile, { workerData: setup, stdout: true });
    this.#worker.stdout.pipe(process.stderr, { end: false });
    this.#worker.on('message', (message: FromEngine) => this.#receive(message));
    this.#worker.on('error', (error) => this.#fall(new EngineDown('engine_crashed', String(error))));
    this.#worker.on('exit', (code) => {
      this.#gone.resolve();
      if (!this.#stopping) this.#fall(new EngineDown('engine_crashed', `the engine thread ended with code ${code}`));
    });
  }

  /** Resolves when all model files are checked; rejects with EngineDown. */
  prepared(): Promise<PreparedEngine[]> {
    return this.#prepared.promise;
  }

  /** Carried out behind all orders before it. Rejects with EngineDown. */
  order(engine: string, order: EngineOrder): Promise<OrderDone> {
    if (this.#down) return Promise.reject(this.#down);
    const ticket = this.#nextTicket++;
    const done = Promise.withResolvers<OrderDone>();
    this.#orders.set(ticket, done);
    this.#post({ type: 'order', ticket, engine, order });
    return done.promise;
  }

  /** As of the last message; null before the engine is loaded. */
  status(engine: string): EngineStatus | null {
    return this.#status.get(engine) ?? null;
  }

  /** Of all engines, `most` tenants by name; null when the thread is gone or takes longer than `limitMs`. */
  async figures(most: number, limitMs: number): Promise<EngineFigures[] | null> {
    if (this.#down) return null;
    const ticket = this.#nextTicket++;
    const answer = new Promise<EngineFigures[]>((resolve) => this.#asked.set(ticket, resolve));
    this.#post({ type: 'figures', ticket, most });
    const late = new AbortController();
    try {
      return await Promise.race([answer, sleep(limitMs, null, { signal: late.signal, ref: false })]);
    } finally {
      late.abort();
      this.#asked.delete(ticket);
    }
  }

  submit(model: string, sequences: SequenceRequest[], onAnswer: (answer: TakeAnswer) => void): void {
    invariant(!this.#down, 'nothing is submitted to a dead engine');
    const ticket = this.#nextTicket++;
    this.#tickets.set(ticket, onAnswer);
    const buffers = sequences
      .flatMap(({ promptIds, outputIds }) => [promptIds.buffer, ...(outputIds ? [outputIds.buffer] : [])])
      .filter((b) => b instanceof ArrayBuffer);
    this.#post({ type: 'submit', ticket, model, sequences }, buffers);
  }

  cancel(model: string, ids: string[]): void {
    if (ids.length > 0 && !this.#down) this.#post({ type: 'cancel', model, ids });
  }

  /** In place of all that were public before. */
  declarePrefixes(model: string, prefixes: EnginePrefixes): void {
    if (!this.#down) this.#post({ type: 'publicPrefixes', model, ...prefixes });
  }

  /** Lets the engine put its device away; resolves when the thread is gone, by force after `limitMs` or where it can't hear. */
  async stop(limitMs: number): Promise<void> {
    this.#stopping = true;
    const hears = !this.#down;
    if (hears) this.#post({ type: 'stop' });
    const timer = setTimeout(() => void this.#worker.terminate(), hears ? limitMs : 0);
    await this.#gone.promise;
    clearTimeout(timer);
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'progress':
        this.#listeners.onProgress(message.stage, message.done, message.total);
        return;
      case 'prepared':
        this.#prepared.resolve(message.engines);
        return;
      case 'done':
        this.#settle(message.ticket)?.resolve(message);
        return;
      case 'undone':
        this.#settle(message.ticket)?.reject(new EngineDown(message.code, message.message));
        return;
      case 'lost':
        this.#listeners.onLost(message.engine, new EngineDown('device_lost', message.message));
        return;
      case 'taken': {
        const onAnswer = this.#tickets.get(message.ticket);
        this.#tickets.delete(message.ticket);
        onAnswer?.(message.answer);
        return;
      }
      case 'step':
        this.#status.set(message.engine, message.status);
        this.#listeners.onStep(message);
        return;
      case 'status':
        this.#status.set(message.engine, message.status);
        return;
      case 'notice':
        this.#listeners.onNotice(message.message);
        return;
      case 'figures':
        this.#asked.get(message.ticket)?.(message.engines);
        return;
      case 'blocks':
        this.#listeners.onBlocks(message.engine, message.changes);
        return;
      case 'fatal':
        this.#fall(new EngineDown(message.code, message.message));
        return;
      case 'stopped':
        return;
    }
  }

  #settle(ticket: number): PromiseWithResolvers<OrderDone> | undefined {
    const order = this.#orders.get(ticket);
    this.#orders.delete(ticket);
    return order;
  }

  #fall(error: EngineDown): void {
    if (this.#down) return;
    this.#down = error;
    this.#prepared.reject(error);
    for (const ticket of [...this.#orders.keys()]) this.#settle(ticket)?.reject(error);
    this.#tickets.clear();
    this.#listeners.onDown(error);
  }

  #post(message: ToEngine, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }
}
