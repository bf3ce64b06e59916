// Finishes every bill. A request that ends normally is settled by its own relay; this is the part that doesn't depend on anybody's
// life: it collects the pools' receipts, settles them, acknowledges them only then, and resolves holds that nobody watches any more
// (the client left, the stream broke, an earlier gateway process died).
import type { Receipt } from '../../pool/wire/events.ts';
import type { Clock } from '../clock.ts';
import { type Bill, billOf } from '../ledger/bill.ts';
import { type Hold, type Ledger, MAX_LEDGER_PAGE, type Settlement } from '../ledger/port.ts';
import { errorFields, type Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { PoolRegistry, PoolState } from './poolRegistry.ts';
import { PoolRequestError } from './poolRequest.ts';
import { resolveHold } from './resolve.ts';

const TICK_MS = 1000;
/** Receipts per question, and acknowledgements per answer. */
const RECEIPT_PAGE = 500;
/** Pages of receipts per pool and tick, so that one pool's backlog doesn't keep the others waiting. */
const PAGES_PER_TICK = 20;
/** Holds that are asked for one by one, per tick. */
const HOLDS_PER_TICK = 200;
/** A left request's receipt is usually there within milliseconds: asked for at these pauses, then by the tick. */
const CHASE_PAUSES_MS = [10, 25, 50, 100, 200, 400] as const;
/** Chases at once; more than that wait for the tick. */
const MAX_CHASES = 64;

export type LeftHold = Pick<Hold, 'requestId' | 'tenant' | 'pool' | 'deadlineMs'>;

export interface SettlerPorts {
  ledger: Ledger;
  registry: PoolRegistry;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export class Settler {
  readonly #ports: SettlerPorts;
  /** Requests whose relay still watches them, and the time after which no request was signed for those that were left. */
  readonly #watched = new Set<string>();
  readonly #leftAtMs = new Map<string, number>();
  readonly #startedAtMs: number;
  readonly #chases = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(ports: SettlerPorts) {
    this.#ports = ports;
    this.#startedAtMs = ports.clock.now();
  }

  watch(requestId: string): void {
    this.#watched.add(requestId);
  }

  /** The one way to a bill: idempotent by request id. The request is no longer watched. */
  async settle(tenant: string, requestId: string, bill: Bill): Promise<Settlement> {
    const { ledger, clock, metrics } = this.#ports;
    const settlement = await ledger.settle({ tenant, requestId, bill, nowMs: clock.now() });
    this.#watched.delete(requestId);
    this.#leftAtMs.delete(requestId);
    if (settlement === 'booked')
      metrics.settled(bill.outcome, bill.inputTokens, bill.cachedInputTokens, bill.outputTokens);
    return settlement;
  }

  /** The relay gives a request up without a bill; from now on this settles it. */
  leave(hold: LeftHold): void {
    this.#watched.delete(hold.requestId);
    this.#leftAtMs.set(hold.requestId, this.#ports.clock.now());
    if (this.#chases.size >= MAX_CHASES) return;
    const chase = this.#chase(hold);
    this.#chases.add(chase);
    void chase.then(() => this.#chases.delete(chase));
  }

  /** Nothing was reserved after all. */
  unwatch(requestId: string): void {
    this.#watched.delete(requestId);
  }

  /** Round after round, until `stop`. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.tick();
      await this.#ports.clock.sleep(TICK_MS, signal);
    }
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
      await Promise.all(registry.pools.map((pool) => this.#collect(pool)));
      await this.#resolveLeft();
    } catch (error) {
      if (!(error instanceof PoolRequestError)) log.error('settle_failed', errorFields(error));
    }
  }

  async #collect(pool: PoolState): Promise<void> {
    try {
      for (let page = 0; page < PAGES_PER_TICK; page++) {
        const { receipts, has_more } = await pool.client.receipts(RECEIPT_PAGE);
        if (receipts.length === 0) return;
        for (const receipt of receipts) await this.#book(pool, receipt);
        await pool.client.acknowledge(receipts.map((receipt) => receipt.request_id));
        if (!has_more) return;
      }
    } catch (error) {
      if (!(error instanceof PoolRequestError)) throw error;
    }
  }

  async #book(pool: PoolState, receipt: Receipt): Promise<void> {
    const settlement = await this.settle(receipt.tenant, receipt.request_id, billOf(receipt));
    if (settlement === 'unknown')
      this.#ports.log.warn('receipt_unknown', { pool: pool.client.target.id, request: receipt.request_id });
  }

  async #resolveLeft(): Promise<void> {
    const { ledger } = this.#ports;
    const unreachable = new Set<string>();
    let asked = 0;
    for (let after = ''; ; ) {
      const holds = await ledger.holds({ after, limit: MAX_LEDGER_PAGE });
      for (const hold of holds) {
        if (this.#watched.has(hold.requestId) || unreachable.has(hold.pool) || asked++ >= HOLDS_PER_TICK) continue;
        if ((await this.#resolve(hold)) === 'unreachable') unreachable.add(hold.pool);
      }
      const last = holds.at(-1);
      if (!last || holds.length < MAX_LEDGER_PAGE) return;
      after = last.requestId;
    }
  }

  async #resolve(hold: LeftHold): Promise<'settled' | 'open' | 'unreachable'> {
    const { registry, clock } = this.#ports;
    const pool = registry.byId(hold.pool);
    if (!pool) return 'unreachable';
    try {
      const receipt = (await pool.client.receiptOf(hold.requestId)) ?? null;
      const bill = resolveHold({
        receipt,
        poolStartedAtMs: pool.status?.started_at_ms ?? null,
        signedBeforeMs: this.#leftAtMs.get(hold.requestId) ?? this.#startedAtMs,
        deadlineMs: hold.deadlineMs,
        nowMs: clock.now(),
      });
      if (!bill) return 'open';
      await this.settle(hold.tenant, hold.requestId, bill);
      return 'settled';
    } catch (error) {
      if (error instanceof PoolRequestError) return 'unreachable';
      throw error;
    }
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
