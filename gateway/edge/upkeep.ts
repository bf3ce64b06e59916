// What one tenant's object does when its alarm rings: marks holds that are over their time, forgets what has expired, asks pools about those that their relays have
// not ended and settles them, hands what is settled to the usage store, and acknowledges the receipts of it. An alarm may come late, more
// than once, or fail half-way: everything here may be repeated, and only what is done is forgotten.
import type { Clock } from '../clock.ts';
import { type Hold, type LedgerStore, MAX_LEDGER_PAGE } from '../ledger/port.ts';
import { tendLedger } from '../ledger/tend.ts';
import { errorFields, type Log } from '../log.ts';
import type { PoolDirectory } from '../pools/directory.ts';
import type { PoolRegistry } from '../relay/poolRegistry.ts';
import { acknowledgeBooked, askAboutHold } from '../relay/receipts.ts';
import { SIGN_WITHIN_MS } from '../relay/resolve.ts';
import { STREAM_SILENT_MS } from '../relay/vigil.ts';
import { feedUsage } from '../usage/feed.ts';
import type { UsageStore } from '../usage/port.ts';
import { Looks } from './looks.ts';

/** Holds that one alarm asks about, one by one; the next goes on. */
const ASKS_PER_RUN = 100;
/** Steps of what settlements left to be done (LedgerStore.tend) in one round. */
const TENDS_PER_RUN = 64;
/** What has expired under idempotency keys is taken away this much later, many at once; it is replayed no more before that. */
const SWEEP_DELAY_MS = 600_000;
/** A usage store that failed is tried again after this. */
const FEED_RETRY_MS = 10_000;

export interface UpkeepPorts {
  ledger: LedgerStore;
  registry: PoolRegistry;
  /** Keeps the registry in step with who is enrolled. */
  pools: Pick<PoolDirectory, 'refresh'>;
  usage: UsageStore;
  clock: Clock;
  log: Log;
  /** Age at which a hold is looked after first. */
  lookAfterMs: number;
  /** A relay whose pool failed looks for another so long. */
  failoverWaitMs: number;
}

export class Upkeep {
  readonly looks: Looks;
  readonly #ports: UpkeepPorts;

  constructor(ports: UpkeepPorts) {
    this.#ports = ports;
    this.looks = new Looks(ports.lookAfterMs);
  }

  /** One round. Returns when the next is due; null: nothing is open. Throws only what the ledger's own storage throws. */
  async run(): Promise<number | null> {
    const { ledger, clock } = this.#ports;
    await ledger.expire(clock.now());
    await this.#ports.pools.refresh();
    await this.#askAbout(await this.#openHolds());
    const fed = await this.#tryFeed();
    const tended = await this.#tryTend();
    const open = await this.#openHolds();
    this.looks.keep(new Set(open.map(({ requestId }) => requestId)));
    const due = open.map((hold) => this.looks.dueAtMs(hold));
    if (!fed || !tended) due.push(clock.now() + FEED_RETRY_MS);
    const keptUntilMs = await ledger.keptUntil();
    if (keptUntilMs !== null) due.push(keptUntilMs + SWEEP_DELAY_MS);
    return due.length === 0 ? null : due.reduce((first, one) => Math.min(first, one));
  }

  /** Hands everything that is settled to the usage store, then lets the pools forget it. */
  async feed(): Promise<void> {
    const { ledger, usage, registry, log } = this.#ports;
    // What a pool keeps all the same is acknowledged later by the collector (worker.ts).
    await feedUsage(ledger, usage, (entries) => acknowledgeBooked(registry, entries, log));
  }

  async #tryFeed(): Promise<boolean> {
    try {
      await this.feed();
      return true;
    } catch (error) {
      this.#ports.log.error('feed_failed', errorFields(error));
      return false;
    }
  }

  /** False: there is more to do, or it failed. */
  async #tryTend(): Promise<boolean> {
    try {
      return await tendLedger(this.#ports.ledger, TENDS_PER_RUN);
    } catch (error) {
      this.#ports.log.error('tend_failed', errorFields(error));
      return false;
    }
  }

  async #askAbout(open: readonly Hold[]): Promise<void> {
    const { ledger, registry, clock, log, failoverWaitMs } = this.#ports;
    const nowMs = clock.now();
    const due = open
      .filter((hold) => this.looks.dueAtMs(hold) <= nowMs)
      .sort((a, b) => this.looks.dueAtMs(a) - this.looks.dueAtMs(b))
      .slice(0, ASKS_PER_RUN);
    for (const [id, holds] of Map.groupBy(due, ({ pool }) => pool)) {
      const pool = registry.byId(id);
      if (pool) await registry.refresh(pool);
      let reachable = pool !== undefined && pool.failures === 0;
      for (const hold of holds) {
        const leftAtMs = this.looks.leftAtMs(hold.requestId);
        // First it has to notice.
        const goesOnWithinMs = leftAtMs === null ? STREAM_SILENT_MS + failoverWaitMs : null;
        const signedBeforeMs = leftAtMs ?? hold.legFromMs + SIGN_WITHIN_MS;
        const evidence = { signedBeforeMs, nowMs: clock.now(), goesOnWithinMs };
        const answer = reachable ? await askAboutHold(pool, hold, evidence) : 'unreachable';
        if (answer === 'unreachable') reachable = false;
        if (typeof answer === 'string') {
          this.looks.looked(hold, clock.now());
          continue;
        }
        const { tenant, requestId, leg } = hold;
        const word = { pool: hold.pool, leg };
        const settlement = await ledger.settle({ tenant, requestId, bill: answer, nowMs: clock.now(), word });
        if (settlement === 'elsewhere') this.looks.looked(hold, clock.now());
        else log.info('settled_by_alarm', { request: requestId, outcome: answer.outcome });
      }
    }
  }

  async #openHolds(): Promise<Hold[]> {
    const open: Hold[] = [];
    for (;;) {
      const last = open.at(-1);
      const page = await this.#ports.ledger.holds({ ...(last && { after: last }), limit: MAX_LEDGER_PAGE });
      open.push(...page);
      if (page.length < MAX_LEDGER_PAGE) return open;
    }
  }
}
