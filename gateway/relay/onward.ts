// Where a request goes on whose pool failed under it. One that was begun has to find a model of the same fingerprint, for only there the rest
// is what it would have been; one that was not may begin anywhere. A pool that comes back may be the one: it is waited for a while.
//
//   never sent (by a fault of this process: after a pause), broken, gave up and says that another may go on ─▶ wait for a place
//   refused, as it has no room or is not warm ─▶ another pool, if there is one now (begun: pause, then wait)   anything else ─▶ the end
import type { Receipt, WireError } from '../../pool/wire/events.ts';
import type { Clock } from '../clock.ts';
import type { Place, PoolRegistry } from './poolRegistry.ts';
import type { PoolFailure } from './poolRequest.ts';
import type { RetryBudget } from './retryBudget.ts';

/** How a leg ended other than well. `gave_up`: the pool's own last word. */
export type Cut = PoolFailure | { kind: 'gave_up'; error: WireError; receipt: Receipt | undefined };

/** A pool that took the request says that it can't go on with it. */
export class GaveUp extends Error {
  override readonly name = 'GaveUp';
  readonly wire: WireError;
  readonly receipt: Receipt | undefined;

  constructor(wire: WireError, receipt: Receipt | undefined) {
    super(wire.message);
    this.wire = wire;
    this.receipt = receipt;
  }
}

/** Each takes the whole prompt to be computed again. */
const MAX_LEGS = 32;
/** In a row: a request that kills its pools must not kill them all, and kills them at one place. */
const MAX_FRUITLESS_LEGS = 8;
const LOOK_EVERY_MS = 50;
const LONGEST_PAUSE_MS = 1600;

export interface EndedLeg {
  cut: Cut;
  from: Place;
  /** Its client has been told something. */
  begun: boolean;
  /** Of those before it. */
  leg: number;
  /** Legs in a row, this one included, that brought nothing new. */
  fruitless: number;
  deadlineMs: number;
}

export interface OnwardOptions {
  registry: PoolRegistry;
  clock: Clock;
  /** For those that were not begun. Those that were are few, and each is bounded by its legs. */
  budget: RetryBudget;
  /** Longest wait for a pool. */
  waitMs: number;
  /** Brings what is known of pools up to now, where the host doesn't do it by itself. */
  freshen: () => Promise<void>;
}

export class Onward {
  readonly #options: OnwardOptions;

  constructor(options: OnwardOptions) {
    this.#options = options;
  }

  /** null: nowhere, or not in time. Ends early when the client leaves. */
  async next(ended: EndedLeg, signal: AbortSignal): Promise<Place | null> {
    const { clock, budget, waitMs, freshen } = this.#options;
    const patience = patienceOf(ended);
    const { leg, fruitless } = ended;
    if (patience === 'none' || signal.aborted) return null;
    if (leg + 1 >= MAX_LEGS || fruitless >= MAX_FRUITLESS_LEGS) return null;
    if (!ended.begun && !budget.take()) return null;
    const untilMs = patience === 'once' ? clock.now() : Math.min(ended.deadlineMs, clock.now() + waitMs);
    // A pool that fails at once, as one does whose engine is lost, would use up the legs before it is well again.
    if (patience === 'pause' || (patience === 'wait' && fruitless > 1))
      await clock.sleep(Math.min(LONGEST_PAUSE_MS, LOOK_EVERY_MS * 2 ** fruitless), signal);
    for (;;) {
      const over = clock.now() >= untilMs;
      const place = this.#find(ended, patience === 'once', over);
      if (place || over) return place;
      await clock.sleep(LOOK_EVERY_MS, signal);
      if (signal.aborted) return null;
      await freshen();
    }
  }

  /** `over`: nothing better will come. A pool that is left alone is mostly one that is dead: asked sooner, it would use up the legs until it is back. */
  #find({ from, begun }: EndedLeg, elsewhere: boolean, over: boolean): Place | null {
    const choice = this.#options.registry.choose(from.model.id, {
      piecesOf: () => from.route.pieces,
      lastResort: begun && over,
      accepts: (pool, { fingerprint }) =>
        (!begun || fingerprint === from.model.fingerprint) && !(elsewhere && pool === from.pool),
    });
    return choice.kind === 'pool' ? choice : null;
  }
}

function patienceOf({ cut, begun, leg }: EndedLeg): 'wait' | 'pause' | 'once' | 'none' {
  switch (cut.kind) {
    case 'never_sent':
      // What keeps this process from sending is not over with the next pool.
      return cut.ours ? 'pause' : 'wait';
    case 'broken':
      return 'wait';
    case 'gave_up':
      return cut.error.resumable ? 'wait' : 'none';
    case 'refused':
      // It has not noticed yet that the connection of the leg before is gone.
      if (leg > 0 && cut.error.code === 'duplicate_request') return 'pause';
      if (!cut.error.resumable) return 'none';
      // It stays a place to go: asked again at once, it would refuse all the legs that there are.
      return begun ? 'pause' : 'once';
  }
}
