// Keeps SQLite's log short. Carrying it into the database file waits for the disk, 0.2 s and more for a log of 64 MiB, in which a process that
// does it itself answers nobody. So a thread carries, again while that leaves less than half, and this process the rest: then the log begins anew.
// Where the disk is slower than what is written, the rest is much, and holds writers back. Where the thread can't, commits carry as ever.
// (https://www.sqlite.org/wal.html, "Application-Initiated Checkpoints")
import { Worker } from 'node:worker_threads';
import { type Clock, within } from './clock.ts';
import { errorFields, type Log } from './log.ts';
import { FEW_LOG_PAGES, LOG_PAGES, type SqliteStore } from './sqlite.ts';

const LOOK_EVERY_MS = 1000;
/** A thread that takes longer to carry once is given up. */
const CARRY_WITHIN_MS = 30_000;
/** After a failure commits carry for so long. */
const AFTER_FAILURE_MS = 60_000;
/** A thread that hangs on the disk is not waited for any longer. */
const END_WITHIN_MS = 2000;
/** It has one small connection, and makes no objects. */
const THREAD_HEAP_MB = 32;

export interface ShortLogOptions {
  clock: Clock;
  log: Log;
  signal: AbortSignal;
  /** From so many pages on it is carried, and down to so few by the thread. */
  pages?: number;
  fewPages?: number;
}

/** Until the signal aborts. Afterwards the store may be closed as the last connection, unless the disk hangs. Never rejects. */
export async function keepLogShort(store: SqliteStore, options: ShortLogOptions): Promise<void> {
  await new LogKeeper(store, options).run();
}

class LogKeeper {
  readonly #store: SqliteStore;
  readonly #options: Required<ShortLogOptions>;
  #thread: LogThread | null = null;
  /** Until then commits carry: the thread has failed. */
  #restsUntilMs = Number.NEGATIVE_INFINITY;

  constructor(store: SqliteStore, options: ShortLogOptions) {
    this.#store = store;
    this.#options = { pages: LOG_PAGES, fewPages: FEW_LOG_PAGES, ...options };
  }

  async run(): Promise<void> {
    const { clock, signal } = this.#options;
    // A process before this one may have left what it was to cut.
    this.#store.cutLog();
    for (; !signal.aborted; await clock.sleep(LOOK_EVERY_MS, signal))
      try {
        await this.#round();
      } catch (error) {
        if (!signal.aborted) this.#failed(error);
      }
    await this.#thread?.end(clock);
  }

  get #rests(): boolean {
    return this.#options.clock.now() < this.#restsUntilMs;
  }

  async #round(): Promise<void> {
    const { pages, fewPages } = this.#options;
    const store = this.#store;
    const uncarried = store.uncarriedPages;
    const byThread = uncarried !== null && !this.#rests;
    store.carryAtCommit(byThread ? 0 : pages);
    if ((uncarried ?? 0) < pages && !store.isToBeCut) return;
    if (byThread && uncarried > fewPages) await this.#carryByThread(uncarried);
    store.carryLog();
  }

  /** Throws ThreadFailed. */
  async #carryByThread(uncarried: number): Promise<void> {
    const { clock, signal, fewPages } = this.#options;
    this.#thread ??= this.#begin();
    for (let [left, before] = [uncarried, Infinity]; left > fewPages && left < before / 2; ) {
      await this.#thread.carry(clock, signal);
      [left, before] = [this.#store.uncarriedPages ?? 0, left];
    }
  }

  #begin(): LogThread {
    const { path } = this.#store;
    if (path === null) throw new ThreadFailed('the database file is not where it was opened');
    return new LogThread(path);
  }

  /** What fails again while it rests is not told again. */
  #failed(error: unknown): void {
    if (this.#rests) return;
    const { clock, log } = this.#options;
    log.error('checkpoint_failed', error instanceof ThreadFailed ? { reason: error.message } : errorFields(error));
    this.#restsUntilMs = clock.now() + AFTER_FAILURE_MS;
    void this.#thread?.end(clock);
    this.#thread = null;
  }
}

/** `message`: why, without a path. */
class ThreadFailed extends Error {
  override readonly name = 'ThreadFailed';
}

class LogThread {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  /** Of the question that is open: null or what failed. */
  #answer: (failed: string | null) => void = () => {};
  #hasExited = false;

  constructor(path: string) {
    this.#worker = new Worker(new URL('./logThread.ts', import.meta.url), {
      workerData: { path },
      // Nothing of what an operator has this process load.
      ...{ execArgv: [], env: {} },
      resourceLimits: { maxOldGenerationSizeMb: THREAD_HEAP_MB },
    });
    this.#worker.on('message', (failed: string | null) => this.#answer(failed));
    this.#worker.on('error', () => this.#answer('the thread failed'));
    this.#exited = new Promise((resolve) =>
      this.#worker.on('exit', () => {
        this.#hasExited = true;
        this.#answer('the thread ended');
        resolve();
      }),
    );
  }

  /** Throws ThreadFailed, also when the signal aborts. */
  async carry(clock: Clock, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const failed = await new Promise<string | null>((resolve) => {
      this.#answer = resolve;
      if (this.#hasExited) resolve('the thread ended');
      else this.#worker.postMessage('carry');
      const late = clock.sleep(CARRY_WITHIN_MS, AbortSignal.any([signal, over.signal]));
      void late.then(() => resolve('the thread takes too long'));
    });
    over.abort();
    if (failed !== null) throw new ThreadFailed(failed);
  }

  async end(clock: Clock): Promise<void> {
    this.#worker.postMessage('end');
    await within(END_WITHIN_MS, this.#exited, clock);
    if (!this.#hasExited) void this.#worker.terminate();
  }
}
