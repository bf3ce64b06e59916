// A gateway for its tests, as the Node host composes it, on a folder of its own, beside a scripted pool: the app itself for requests
// in this process.
import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApp } from '../../gateway/app.ts';
import { LocalAsyncSql } from '../../gateway/asyncSql.ts';
import { SqlAudit } from '../../gateway/audit/sqlAudit.ts';
import { systemClock } from '../../gateway/clock.ts';
import { CachedDirectory } from '../../gateway/directory/cachedDirectory.ts';
import { SqlPrefixes } from '../../gateway/directory/sqlPrefixes.ts';
import { createKeyring } from '../../gateway/keys/keyring.ts';
import { SqlAdminKeys } from '../../gateway/keys/sqlAdminKeys.ts';
import type { LedgerEntry, LedgerStore } from '../../gateway/ledger/port.ts';
import { SqlLedger } from '../../gateway/ledger/sqlLedger.ts';
import { jsonLog } from '../../gateway/log.ts';
import { Metrics } from '../../gateway/metrics.ts';
import { MIGRATIONS } from '../../gateway/migrations.ts';
import { PoolDirectory } from '../../gateway/pools/directory.ts';
import { SqlPools } from '../../gateway/pools/sqlPools.ts';
import type { GatewayPorts, GatewaySettings } from '../../gateway/ports.ts';
import { RememberedPrices } from '../../gateway/prices/rememberedPrices.ts';
import { PoolClient } from '../../gateway/relay/poolClient.ts';
import { PoolRegistry } from '../../gateway/relay/poolRegistry.ts';
import { PromptCounts } from '../../gateway/relay/promptCount.ts';
import { PublicPrefixes } from '../../gateway/relay/publicPrefixes.ts';
import { Settler } from '../../gateway/relay/settler.ts';
import { openDatabase, type SqliteStore } from '../../gateway/sqlite.ts';
import { gatewayTracer, type Tracer } from '../../gateway/trace.ts';
import { SerialTurns } from '../../gateway/turns.ts';
import { feedUsage } from '../../gateway/usage/feed.ts';
import { SqlUsage } from '../../gateway/usage/sqlUsage.ts';
import type { PrefixDeclaration } from '../../pool/wire/publicPrefixes.ts';
import { ADMIN_KEY, GatewayClient } from './gatewayClient.ts';
import { ScriptedPool } from './scriptedPool.ts';

export { ADMIN_KEY, bodyOf, type Tenant } from './gatewayClient.ts';

export const DEFAULTS = { chatMaxTokens: 64, completionMaxTokens: 16 };
export const LIMITS = {
  maxBodyBytes: 64 * 1024,
  maxConcurrentRequests: 64,
  requestTimeoutMs: 60_000,
  holdMarginMs: 1000,
  failoverWaitMs: 0,
  keepAliveMs: 15_000,
  idempotencyKeepMs: 86_400_000,
};
const BILLING = { accountId: 'acct-1', accountName: 'Some Account', issuerName: 'Some Issuer' };
const SETTINGS: GatewaySettings = { ...DEFAULTS, ...LIMITS, billing: BILLING };

export class GatewayRig extends GatewayClient {
  readonly pool: ScriptedPool;
  readonly db: SqliteStore;
  readonly ledger: LedgerStore;
  readonly central: LocalAsyncSql;
  readonly settler: Settler;
  readonly ports: GatewayPorts;
  readonly logged: string[] = [];
  readonly hangUp = new AbortController();
  readonly #app: ReturnType<typeof createApp>;
  readonly #close: () => void;

  constructor(
    pool: ScriptedPool,
    settings: Partial<GatewaySettings> = {},
    prefixes: readonly PrefixDeclaration[] = [],
    tracer: Tracer = gatewayTracer(),
  ) {
    super();
    const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
    this.pool = pool;
    const db = openDatabase(join(folder, 'gateway.sqlite'), 'NORMAL', MIGRATIONS);
    this.db = db;
    const central = new LocalAsyncSql(db);
    this.central = central;
    const clock = systemClock;
    const random = (count: number) => randomBytes(count);
    const ledger = new SqlLedger(db);
    this.ledger = ledger;
    const metrics = new Metrics();
    const target = {
      id: pool.id,
      url: pool.url,
      keyId: pool.keyId,
      secret: createSecretKey(Buffer.from(pool.secretHex, 'hex')),
    };
    const configured = [{ client: new PoolClient(target, { fetch, clock, random }), models: [pool.model] }];
    const registry = new PoolRegistry(configured, clock);
    const log = jsonLog((line) => this.logged.push(line), clock.now);
    const keyring = createKeyring({
      adminKey: ADMIN_KEY,
      namespaceSecret: createSecretKey(Buffer.alloc(32, 1)),
      peppers: [{ version: 1, secret: createSecretKey(Buffer.alloc(32, 2)) }],
    });
    const publicPrefixes = new PublicPrefixes(new SqlPrefixes(central), prefixes, keyring, log, new SerialTurns());
    const usage = new SqlUsage(central);
    this.settler = new Settler({ ledger, registry, clock, log, metrics });
    this.ports = {
      settings: { ...SETTINGS, ...settings },
      ...{ keyring, ledger, metrics, registry, publicPrefixes, clock, random, log, tracer },
      directory: new CachedDirectory(central, () => db.cutLog(), clock),
      pools: new PoolDirectory({
        ...{ store: new SqlPools(central), registry, configured, keyring, log },
        ports: { fetch, clock, random },
      }),
      usage,
      prices: new RememberedPrices(central),
      adminKeys: new SqlAdminKeys(central),
      audit: new SqlAudit(central),
      counts: new PromptCounts(),
      settler: this.settler,
      gauges: async () => [],
      freshenUsage: async () => void (await feedUsage(ledger, usage)),
      freshenPools: () => this.refresh(),
      hangUp: this.hangUp.signal,
    };
    this.#app = createApp(this.ports);
    this.#close = () => {
      db.close();
      rmSync(folder, { recursive: true, force: true });
    };
  }

  static async start(
    settings: Partial<GatewaySettings> = {},
    prefixes: readonly PrefixDeclaration[] = [],
    tracer: Tracer = gatewayTracer(),
  ): Promise<GatewayRig> {
    const pool = new ScriptedPool();
    await pool.start();
    const rig = new GatewayRig(pool, settings, prefixes, tracer);
    await rig.refresh();
    return rig;
  }

  async stop(): Promise<void> {
    await this.settler.stop();
    await this.pool.kill();
    this.#close();
  }

  /** Asks the pool for its status, as the host's loop does. */
  async refresh(): Promise<void> {
    const { registry, publicPrefixes } = this.ports;
    for (const pool of registry.pools) {
      await registry.refresh(pool);
      await publicPrefixes.publish(pool);
    }
  }

  protected async ask(path: string, init: RequestInit): Promise<Response> {
    return this.#app.request(path, init);
  }

  /** As it came, from a host that is not this process. */
  async send(request: Request): Promise<Response> {
    return this.#app.fetch(request);
  }

  /** Every settled request, oldest first. */
  async entries(): Promise<LedgerEntry[]> {
    const { usage, freshenUsage } = this.ports;
    await freshenUsage(undefined);
    return usage.page({ startMs: 0, endMs: Number.MAX_SAFE_INTEGER }, 0, Number.MAX_SAFE_INTEGER, 1000);
  }

  /** Waits until nothing is held any more, as long as a chase may take. */
  async unheld(): Promise<void> {
    for (let waited = 0; waited < 5000; waited += 10) {
      const { held, unresolved } = await this.ledger.holdCounts();
      if (held + unresolved === 0) return;
      await this.ports.clock.sleep(10);
    }
    throw new Error('a hold was left behind');
  }
}
