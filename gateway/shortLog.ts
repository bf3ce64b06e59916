// Keeps SQLite's log short. Carrying it into the database file waits for the disk, 0.2 s and more for a log of 64 MiB, in which a process that
// does it itself answers nobody. So a thread does most of it, and this process what was written meanwhile: after that the log begins anew.
// (https://www.sqlite.org/wal.html, "Application-Initiated Checkpoints")
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';
import { LOG_PAGES, type SqliteStore } from './sqlite.ts';

const LOOK_EVERY_MS = 1000;
/** A log of so many times its length is carried by whoever writes to it, as if there were no thread. */
const WITHOUT_THREAD = 4;
/** The thread has one small connection, and makes no objects. */
const THREAD_HEAP_MB = 16;

export interface ShortLogOptions {
  clock: Clock;
  log: Log;
  signal: AbortSignal;
  /** From so many pages on it is carried. */
  pages?: number;
}

/** Until the signal aborts. Afterwards the thread has ended, and the store may be closed as the last one that is open. */
export async function keepLogShort(
  store: SqliteStore,
  { clock, log, signal, pages = LOG_PAGES }: ShortLogOptions,
): Promise<void> {
  store.exec(`PRAGMA wal_autocheckpoint = ${pages * WITHOUT_THREAD}`);
  let thread: LogThread | null = null;
  for (; !signal.aborted; await clock.sleep(LOOK_EVERY_MS, signal)) {
    if (store.uncarriedPages < pages && !store.isToBeCut) continue;
    try {
      if (store.uncarriedPages >= pages) {
        if (!thread?.lives) thread = new LogThread(store.path);
        await thread.carry();
      }
      store.carryLog();
    } catch (error) {
      log.error('checkpoint_failed', { reason: error instanceof Error ? error.message : String(error) });
    }
  }
  await thread?.end();
}

class LogThread {
  readonly #worker: Worker;
  readonly #ended: Promise<unknown>;
  lives = true;

  constructor(path: string) {
    this.#worker = new Worker(new URL('./logThread.ts', import.meta.url), {
      workerData: { path },
      resourceLimits: { maxOldGenerationSizeMb: THREAD_HEAP_MB, maxYoungGenerationSizeMb: 1 },
    });
    this.#ended = once(this.#worker, 'exit').finally(() => {
      this.lives = false;
    });
    this.#ended.catch(() => {}); // told by whoever waits for it
  }

  /** Throws Error with SQLite's reason, or the thread's. */
  async carry(): Promise<void> {
    const answer = once(this.#worker, 'message');
    this.#worker.postMessage('carry');
    const told: unknown = await Promise.race([answer, this.#ended]);
    if (!this.lives) throw new Error('the thread ended');
    const reason: unknown = Array.isArray(told) ? told[0] : null;
    if (reason !== null) throw new Error(String(reason));
  }

  async end(): Promise<void> {
    if (this.lives) this.#worker.postMessage('end');
    await this.#ended.catch(() => {});
  }
}
