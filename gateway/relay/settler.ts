// Finishes every bill of a host that lives on. A request that ends normally is settled by its own relay; this is the part that doesn't depend on anybody's
// life: it collects the pools' receipts, settles them, acknowledges them only then, and resolves holds that nobody watches any more
// (the client left, the stream broke, an earlier gateway process died).
import type { Clock } from '../clock.ts';
import type { Bill } from '../ledger/bill.ts';
import { type Hold, type LedgerStore, MAX_LEDGER_PAGE, type Settlement } from '../ledger/port.ts';
import { errorFields, type Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { PoolRegistry } from './poolRegistry.ts';
import { PoolRequestError } from './poolRequest.ts';
import { askAboutHold, type Collecting, collectReceipts } from './receipts.ts';
import { book, type LeftHold, type SettleMore, type Settling } from './settling.ts';

/** Holds that are asked for one by one, per tick. */
const HOLDS_PER_TICK = 200;
/** A left request's receipt is usually there within milliseconds: asked for at these pauses, then by the tick. */
const CHASE_PAUSES_MS = [10, 25, 50, 100, 200, 400] as const;
/** Chases at once; more than that wait for the tick. */
const MAX_CHASES = 64;

export interface SettlerPorts {
  ledger: LedgerStore;
  registry: PoolRegistry;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export class Settler implements Settling {
  readonly #ports: SettlerPorts;
  /** Requests whose relay still watches them, by how many say so, and the time after which no request was signed for those that were left. */
  readonly #watched = new Map<string, number>();
  readonly #leftAtMs = new Map<string, number>();
  readonly #startedAtMs: number;
  readonly #chases = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #first: boolean;
  /** Bills that are being booked. */
  #booking = 0;

  /** `first`: answers wait for their bills (`settlesFirst`). */
  constructor(ports: SettlerPorts, first = false) {
    this.#ports = ports;
    this.#first = first;
    this.#startedAtMs = ports.clock.now();
  }

  watch(requestId: string): () => void {
    this.#watched.set(requestId, (this.#watched.get(requestId) ?? 0) + 1);
    return () => {
      const watches = this.#watched.get(requestId) ?? 0;
      if (watches > 1) this.#watched.set(requestId, watches - 1);
      else this.#watched.delete(requestId);
    };
  }

  /** The request is no longer watched, unless it is another pool's by now. */
  async settle(tenant: string, requestId: string, bill: Bill, more?: SettleMore): Promise<Settlement> {
    this.#booking += 1;
    const settlement = await book(this.#ports, tenant, requestId, bill, more).finally(() => {
      this.#booking -= 1;
    });
    if (settlement === 'elsewhere') return settlement;
    this.#watched.delete(requestId);
    this.#leftAtMs.delete(requestId);
    return settlement;
  }

  get settlesFirst(): boolean {
    return this.#first || this.#booking > 0;
  }

  leave(hold: LeftHold): void {
    this.#watched.delete(hold.requestId);
    this.#leftAtMs.set(hold.requestId, this.#ports.clock.now());
    if (this.#chases.size >= MAX_CHASES) return;
    const chase = this.#chase(hold);
    this.#chases.add(chase);
    void chase.then(() => this.#chases.delete(chase));
  }

  /** What is not settled yet stays in the ledger, and the next start goes on with it. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#chases);
  }

  /** One round over all pools and open holds. Never throws: what fails is tried again by the next. */
  async tick(): Promise<void> {
    const { ledger, registry, clock, log } = this.#ports;
    try {
      await ledger.expire(clock.now());
      const collecting: Collecting = {
        settle: (tenant, requestId, bill, word) => this.settle(tenant, requestId, bill, { word }),
        // Its relay ends it, here or at another pool.
        leave: ({ request_id }) => this.#watched.has(request_id),
        log,
      };
      await Promise.all(registry.pools.map((pool) => collectReceipts(pool, collecting)));
      await this.#resolveLeft();
    } catch (error) {
      if (!(error instanceof PoolRequestError)) log.error('settle_failed', errorFields(error));
    }
  }

  async #resolveLeft(): Promise<void> {
    const { ledger } = this.#ports;
    const unreachable = new Set<string>();
    let asked = 0;
    for (let last: Hold | undefined; ; ) {
      const holds: Hold[] = await ledger.holds({ ...(last && { after: last }), limit: MAX_LEDGER_PAGE });
      for (const hold of holds) {
        if (this.#watched.has(hold.requestId) || unreachable.has(hold.pool) || asked++ >= HOLDS_PER_TICK) continue;
        if ((await this.#resolve(hold)) === 'unreachable') unreachable.add(hold.pool);
      }
      last = holds.at(-1);
      if (holds.length < MAX_LEDGER_PAGE) return;
    }
  }

  async #resolve(hold: LeftHold): Promise<'settled' | 'open' | 'unreachable'> {
    const { registry, clock } = this.#ports;
    const signedBeforeMs = this.#leftAtMs.get(hold.requestId) ?? this.#startedAtMs;
    const evidence = { signedBeforeMs, nowMs: clock.now(), goesOnWithinMs: null };
    const answer = await askAboutHold(registry.byId(hold.pool), hold, evidence);
    if (typeof answer === 'string') return answer;
    await this.settle(hold.tenant, hold.requestId, answer);
    return 'settled';
  }

  async #chase(hold: LeftHold): Promise<void> {
    const { signal } = this.#stopping;
    try {
      for (const pauseMs of CHASE_PAUSES_MS) {
        await this.#ports.clock.sleep(pauseMs, signal);
        if (signal.aborted || (await this.#resolve(hold)) === 'settled') return;
      }
    } catch (error) {
      this.#ports.log.error('settle_failed', errorFields(error));
    }
  }
}
