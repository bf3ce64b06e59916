// Whether a leg's pool is still there while the leg waits for it. A dead link closes no connection, and a pool may be silent for minutes over a
// long prompt: so silence alone proves nothing. What proves death is that the pool's own comments stay away from an open stream, or that it
// leaves questions unanswered meanwhile. The questions also tell the pool that its requests have somebody (their lease).
//
//   waiting ─ nothing for SILENT_MS, no question answered either ─▶ lost
//           ├ nothing for STREAM_SILENT_MS, though the stream is open ─▶ lost
//           └ everything else: waits on, to the deadline
import type { Clock } from '../clock.ts';
import type { PoolState } from './poolRegistry.ts';

const LOOK_EVERY_MS = 1000;
/** Longer than a question may take. */
const SILENT_MS = 6000;
/** A pool comments on an open stream each second or two. The link works, and yet this connection leads nowhere: a middlebox forgot it. */
export const STREAM_SILENT_MS = 15_000;
/** Who asks last asks for all requests at the pool; the Node host does by itself. */
const ASK_EVERY_MS = 2000;
/** Several questions may be lost before the pool ends what nobody seems to wait for. */
export const LEASE_MS = 15_000;

export interface VigilOptions {
  clock: Clock;
  pool: Pick<PoolState, 'askedAtMs' | 'answeredAtMs'>;
  /** Whatever comes, the leg is not waited for beyond this. Unix milliseconds. */
  untilMs: number;
  /** Asks the pool for its status. */
  ask: () => void;
  /** The leg is lost, or its time over. Once at most. */
  giveUp: () => void;
}

export class Vigil {
  readonly #options: VigilOptions;
  readonly #sinceMs: number;
  /** null: it is the client that is waited for. */
  #silentSinceMs: number | null;
  #open = false;
  #lost = false;

  /** Until the signal aborts. */
  constructor(options: VigilOptions, signal: AbortSignal) {
    this.#options = options;
    this.#sinceMs = options.clock.now();
    this.#silentSinceMs = this.#sinceMs;
    void this.#keep(signal);
  }

  get lost(): boolean {
    return this.#lost;
  }

  /** The stream has begun. */
  opened(): void {
    this.#open = true;
  }

  /** Bytes came, of whatever meaning. */
  readonly heard = (): void => {
    if (this.#silentSinceMs !== null) this.#silentSinceMs = this.#options.clock.now();
  };

  /** What came is being passed on: for so long the pool is not waited for. */
  rest(): void {
    this.#silentSinceMs = null;
  }

  resume(): void {
    this.#silentSinceMs = this.#options.clock.now();
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock, pool, untilMs, ask, giveUp } = this.#options;
    for (let lookedAtMs = this.#sinceMs; lookedAtMs < untilMs; lookedAtMs = clock.now()) {
      await clock.sleep(Math.min(LOOK_EVERY_MS, untilMs - lookedAtMs), signal);
      if (signal.aborted) return;
      const nowMs = clock.now();
      if (nowMs - pool.askedAtMs >= ASK_EVERY_MS) ask();
      // This process stood still itself: what came meanwhile has not been read.
      if (nowMs - lookedAtMs > 2 * LOOK_EVERY_MS) this.heard();
      else if (this.#isLost(nowMs)) {
        this.#lost = true;
        break;
      }
    }
    giveUp();
  }

  #isLost(nowMs: number): boolean {
    if (this.#silentSinceMs === null) return false;
    const silentMs = nowMs - this.#silentSinceMs;
    const unansweredMs = nowMs - Math.max(this.#options.pool.answeredAtMs, this.#sinceMs);
    return (silentMs >= SILENT_MS && unansweredMs >= SILENT_MS) || (this.#open && silentMs >= STREAM_SILENT_MS);
  }
}
