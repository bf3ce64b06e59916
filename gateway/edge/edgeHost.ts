// The app as one isolate runs it: bindings beneath the ports, and before each request as much freshness as its route needs. Whatever is kept
// here is plain data of bounded size; nothing in it belongs to a request.
import { createApp } from '../app.ts';
import { ACTION_ENDS_WITHIN_MS } from '../audit/record.ts';
import { SqlAudit } from '../audit/sqlAudit.ts';
import { type Clock, systemClock } from '../clock.ts';
import { CachedDirectory } from '../directory/cachedDirectory.ts';
import { SqlPrefixes } from '../directory/sqlPrefixes.ts';
import { SqlAdminKeys } from '../keys/sqlAdminKeys.ts';
import { errorFields, jsonLog, type Log } from '../log.ts';
import { Metrics } from '../metrics.ts';
import { PoolDirectory } from '../pools/directory.ts';
import { SqlPools } from '../pools/sqlPools.ts';
import type { GatewayPorts } from '../ports.ts';
import { PoolRegistry, type PoolState } from '../relay/poolRegistry.ts';
import { PromptCounts } from '../relay/promptCount.ts';
import { PublicPrefixes } from '../relay/publicPrefixes.ts';
import { type Collecting, collectReceipts } from '../relay/receipts.ts';
import { ROUTING_POLICIES } from '../routing/policies.ts';
import { gatewayTracer } from '../trace.ts';
import { SqlUsage } from '../usage/sqlUsage.ts';
import { CachedPrices } from './cachedPrices.ts';
import type { EdgeEnv } from './cloudflare.ts';
import { parseEnv } from './config.ts';
import { D1Sql } from './d1Sql.ts';
import { LedgerClient } from './ledgerClient.ts';
import { poolClients, webPorts, webRandom } from './pools.ts';
import { PoolWatch } from './poolWatch.ts';
import { EdgeSettling } from './settling.ts';

/** Another isolate may have declared or deleted a public prefix; a pool that differs from what is known here asks at once. */
const PREFIXES_VALID_MS = 60_000;
/** Another isolate may have heard a pool, or an administrator removed one. */
const POOLS_VALID_MS = 3000;

/** What ended early, by its pool or as a connection broke, is for its relay, or its tenant's object, as long as that may live. */
const UNFINISHED_FOR_MS = 3_600_000;

/** Routes whose answer depends on the state of pools. */
const NEEDS_POOLS =
  /^\/(v1\/(chat\/completions|completions|models)|v1\/organization\/(public_prefixes|pools)|readyz|metrics)/;
const NEEDS_PREFIXES = /^\/v1\/organization\/public_prefixes/;

export type Later = (work: Promise<unknown>) => void;

export class EdgeHost {
  readonly #app: ReturnType<typeof createApp>;
  readonly #registry: PoolRegistry;
  readonly #pools: PoolDirectory;
  readonly #watch: PoolWatch;
  readonly #prefixes: PublicPrefixes;
  readonly #settling: EdgeSettling;
  readonly #audit: SqlAudit;
  readonly #clock: Clock = systemClock;
  readonly #log: Log;
  readonly #later: Later;
  #prefixesAtMs = Number.NEGATIVE_INFINITY;

  /** `later` keeps the invocation that calls it. Throws ConfigError. */
  constructor(env: EdgeEnv, later: Later) {
    const { settings, keyring, pools } = parseEnv(env);
    const clock = this.#clock;
    const log = jsonLog((line) => console.log(line.trimEnd()), clock.now);
    const central = new D1Sql(env.DB);
    const metrics = new Metrics();
    const ledger = new LedgerClient(env.TENANTS, clock);
    const prefixes = new PublicPrefixes(new SqlPrefixes(central), settings.publicPrefixes, keyring, log, {
      run: (_pool, work) => work(), // two pushes at once are harmless; waiting for another request's promise is not
    });
    const configured = poolClients(pools, clock);
    const policy = ROUTING_POLICIES[settings.routing](Math.random);
    const registry = new PoolRegistry(configured, clock, (pool) => later(this.#publish(pool)), policy);
    this.#pools = new PoolDirectory({
      ...{ store: new SqlPools(central), registry, configured, keyring, log },
      ports: webPorts(clock),
    });
    this.#audit = new SqlAudit(central);
    this.#settling = new EdgeSettling({ clock, metrics }, ledger, later);
    const ports: GatewayPorts = {
      settings: { ...settings.defaults, ...settings.limits, billing: settings.billing },
      ...{ keyring, ledger, metrics, registry, clock, log },
      pools: this.#pools,
      random: webRandom,
      tracer: gatewayTracer(),
      directory: new CachedDirectory(central, () => {}, clock),
      usage: new SqlUsage(central),
      prices: new CachedPrices(central, clock),
      adminKeys: new SqlAdminKeys(central),
      audit: this.#audit,
      publicPrefixes: prefixes,
      counts: new PromptCounts(),
      settler: this.#settling,
      gauges: async () => [],
      freshenUsage: async (projects = []) => {
        await Promise.all(projects.map((project) => ledger.object(project).feed()));
      },
      freshenPools: () => this.#freshenPools(),
      hangUp: null,
    };
    this.#log = log;
    this.#later = later;
    this.#registry = registry;
    this.#prefixes = prefixes;
    this.#watch = new PoolWatch(registry, clock);
    this.#app = createApp(ports);
  }

  async answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (NEEDS_PREFIXES.test(pathname)) await this.#loadPrefixes();
    if (NEEDS_POOLS.test(pathname)) await this.#freshenPools();
    return this.#app.fetch(request);
  }

  /**
   * Writes what the audit log lacks. Books and acknowledges what pools still keep: receipts whose acknowledgement failed, or whose tenant's object was never woken. What it
   * finds is usually booked already.
   */
  async collect(): Promise<void> {
    await this.#pools.refresh();
    const nowMs = this.#clock.now();
    const concluded = this.#audit.conclude(nowMs - ACTION_ENDS_WITHIN_MS);
    await concluded.catch((error: unknown) => this.#log.error('audit_failed', errorFields(error)));
    const collecting: Collecting = {
      settle: (tenant, requestId, bill, word) => this.#settling.settle(tenant, requestId, bill, { word }),
      // A relay may be taking it to another pool; where none is, the tenant's object settles it.
      leave: (receipt) => receipt.outcome !== 'completed' && nowMs - receipt.updated_at_ms < UNFINISHED_FOR_MS,
      log: this.#log,
    };
    await Promise.all(this.#registry.pools.map((pool) => collectReceipts(pool, collecting)));
  }

  async #freshenPools(): Promise<void> {
    await this.#pools.fresh(POOLS_VALID_MS, this.#later);
    await this.#watch.fresh(this.#later);
  }

  async #loadPrefixes(): Promise<void> {
    await this.#prefixes.load();
    this.#prefixesAtMs = this.#clock.now();
  }

  /** Never rejects. */
  async #publish(pool: PoolState): Promise<void> {
    try {
      const old = this.#clock.now() - this.#prefixesAtMs > PREFIXES_VALID_MS;
      if (old || this.#prefixes.isBehind(pool)) await this.#loadPrefixes();
      await this.#prefixes.publish(pool);
    } catch (error) {
      this.#log.warn('public_prefixes_failed', { pool: pool.client.target.id, ...errorFields(error) });
    }
  }
}
