// The app on Node: SQLite beneath the ledger, node:http in front, loops that poll pools, settle bills and feed usage. Starting gives a
// handle whose `stop` drains: accept nothing new, let running requests end within a bound, hang up on the rest, settle, close.
import { createSecretKey } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { createApp } from './app.ts';
import { LocalAsyncSql } from './asyncSql.ts';
import { ACTION_ENDS_WITHIN_MS } from './audit/record.ts';
import { SqlAudit } from './audit/sqlAudit.ts';
import { type Clock, systemClock } from './clock.ts';
import { type GatewaySection, isLoopback } from './config.ts';
import { ensureDevCredentials } from './devCredentials.ts';
import { CachedDirectory } from './directory/cachedDirectory.ts';
import { SqlPrefixes } from './directory/sqlPrefixes.ts';
import { keyringOf } from './keys/secrets.ts';
import { SqlAdminKeys } from './keys/sqlAdminKeys.ts';
import type { LedgerEntry, LedgerStore } from './ledger/port.ts';
import { SqlLedger } from './ledger/sqlLedger.ts';
import { tendLedger } from './ledger/tend.ts';
import { createListener, type Listener, listen, watchCertificate } from './listener.ts';
import { errorFields, type Log } from './log.ts';
import { type Gauge, Metrics } from './metrics.ts';
import { MIGRATIONS } from './migrations.ts';
import { PoolConnections } from './poolConnections.ts';
import { PoolDirectory } from './pools/directory.ts';
import { SqlPools } from './pools/sqlPools.ts';
import type { GatewayPorts } from './ports.ts';
import { RememberedPrices } from './prices/rememberedPrices.ts';
import type { GatewayHost } from './processProtocol.ts';
import { randomPool } from './randomPool.ts';
import { PoolClient } from './relay/poolClient.ts';
import { type KnownPool, PoolRegistry } from './relay/poolRegistry.ts';
import { PromptCounts } from './relay/promptCount.ts';
import { PublicPrefixes } from './relay/publicPrefixes.ts';
import { acknowledgeBooked } from './relay/receipts.ts';
import { Settler } from './relay/settler.ts';
import { ROUTING_POLICIES } from './routing/policies.ts';
import { openSecrets } from './secrets.ts';
import { keepLogShort } from './shortLog.ts';
import { lockFolder, openDatabase } from './sqlite.ts';
import { gatewayTracer } from './trace.ts';
import { SerialTurns } from './turns.ts';
import { feedUsage } from './usage/feed.ts';
import { SqlUsage } from './usage/sqlUsage.ts';

/** The usage table follows the ledger within this, reading it brings it up to date at once; and what was left is looked after. */
const UPKEEP_INTERVAL_MS = 1000;
/** Steps of what settlements left to be done (LedgerStore.tend) in one round: enough for 8,000 requests, each of another tenant. */
const TENDS_PER_ROUND = 128;
/** Of the heap's bound; the rest of it is for the youngest objects (processProtocol.ts). */
const HEAP_BYTES = Math.max(32e6, getHeapStatistics().heap_size_limit - 200e6);
/** What the requests of so many tenants need is in memory: their books, and of each a key and a project in some 1.5 kB. */
const BOOKS_BYTES = Math.min(512e6, HEAP_BYTES / 4);
const TENANTS = Math.min(131_072, Math.floor(HEAP_BYTES / 8 / 1500));
/** A pool that fell silent is out so much later at most. */
const POOLS_INTERVAL_MS = 1000;
/** While draining, connections that fell idle are closed this often: kept alive they would hold the server open. */
const CLOSE_IDLE_INTERVAL_MS = 25;
/** After hanging up on clients, their requests have this long to unwind. */
const HANG_UP_GRACE_MS = 1000;

/** Throws ConfigError, with the remedy, for what the operator can mend. */
export async function startGateway(section: GatewaySection, log: Log): Promise<GatewayHost> {
  mkdirSync(section.dataDir, { recursive: true, mode: 0o700 });
  const random = randomPool();
  const unlock = lockFolder(section.dataDir);
  const keyring = keyringOf(openSecrets(section, random), TENANTS);
  const db = openDatabase(join(section.dataDir, 'gateway.sqlite'), section.synchronous, MIGRATIONS);
  const clock = systemClock;
  const ledger = new SqlLedger(db, { booksBytes: BOOKS_BYTES });
  const central = new LocalAsyncSql(db);
  const usage = new SqlUsage(central);
  const metrics = new Metrics();
  const publicPrefixes = new PublicPrefixes(
    new SqlPrefixes(central),
    section.publicPrefixes,
    keyring,
    log,
    new SerialTurns(),
  );
  await publicPrefixes.load();
  const audit = new SqlAudit(central);
  await audit.conclude(Number.MAX_SAFE_INTEGER); // whoever began them is dead
  const connections = new PoolConnections();
  const poolPorts = { fetch: connections.fetch, clock, random };
  const known = (pool: GatewaySection['pools'][number] & { retired?: boolean }): KnownPool => {
    const { id, url, keyId, secretHex, ...rest } = pool;
    const target = { id, url: url.replace(/\/+$/, ''), keyId, secret: createSecretKey(secretHex, 'hex') };
    return { client: new PoolClient(target, poolPorts), ...rest };
  };
  const registry = new PoolRegistry(
    section.pools.map(known),
    clock,
    (pool) => void publicPrefixes.publish(pool),
    ROUTING_POLICIES[section.routing](Math.random),
  );
  const pools = new PoolDirectory({
    ...{ store: new SqlPools(central), registry, keyring, log },
    configured: section.pools.map(known),
    ports: poolPorts,
  });
  await pools.refresh();
  // A power failure may take a pool's journal with it.
  const settler = new Settler({ ledger, registry, clock, log, metrics }, section.synchronous === 'FULL');
  const hangUp = new AbortController();
  const ports: GatewayPorts = {
    settings: { ...section.defaults, ...section.limits, billing: section.billing },
    ...{ keyring, ledger, usage, metrics, registry, pools, publicPrefixes, settler, clock, random, log },
    tracer: gatewayTracer(),
    directory: new CachedDirectory(central, () => db.cutLog(), clock, {
      projects: TENANTS,
      validMs: Number.POSITIVE_INFINITY,
    }),
    prices: new RememberedPrices(central),
    adminKeys: new SqlAdminKeys(central),
    audit,
    counts: new PromptCounts(),
    gauges: () => holdGauges(ledger),
    freshenUsage: async () => void (await feedUsage(ledger, usage)),
    freshenPools: async () => {}, // a loop does
    hangUp: hangUp.signal,
  };

  const app = createApp(ports);
  const server = createListener(app.fetch, section);
  const port = await listen(server, section.host, section.port);
  const baseURL = `${section.tls ? 'https' : 'http'}://${section.host.includes(':') ? `[${section.host}]` : section.host}:${port}/v1`;
  const credentials =
    section.mode === 'development' && isLoopback(section.host)
      ? await ensureDevCredentials(async (path, init) => app.request(path, init), {
          dataDir: section.dataDir,
          baseURL,
          adminKey: keyring.adminKey,
          tokensPerDay: section.defaults.devTokensPerDay,
        })
      : null;

  const stopping = new AbortController();
  const { signal } = stopping;
  const loops = [
    registry.run(signal),
    upkeep({ ...ports, ledger }, settler, signal),
    lookForPools(ports, signal),
    watchCertificate(server, section, { clock, log, signal }),
    keepLogShort(db, { clock, log, signal }),
  ];

  async function stop(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    const drained = new AbortController();
    const ended = closed.then(() => drained.abort());
    void closeIdle(server, clock, drained.signal);
    await Promise.race([ended, clock.sleep(section.drainMs, drained.signal)]);
    hangUp.abort();
    await Promise.race([ended, clock.sleep(HANG_UP_GRACE_MS, drained.signal)]);
    server.closeAllConnections();
    await settler.tick();
    stopping.abort();
    await settler.stop();
    await Promise.all(loops);
    connections.close();
    await feedUsage(ledger, usage);
    db.close();
    unlock();
  }
  return { port, baseURL, credentials, setPools: (list) => pools.configure(list.map(known)), stop };
}

type HostPorts = Omit<GatewayPorts, 'ledger'> & { ledger: LedgerStore };

async function holdGauges(ledger: LedgerStore): Promise<Gauge[]> {
  const { held, unresolved } = await ledger.holdCounts();
  const name = 'hearth_gateway_holds';
  return [
    { name, labels: { state: 'held' }, value: held },
    { name, labels: { state: 'unresolved' }, value: unresolved },
  ];
}

async function closeIdle(server: Listener, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    server.closeIdleConnections();
    await clock.sleep(CLOSE_IDLE_INTERVAL_MS, signal);
  }
}

/** Who announced itself is known at once; this finds who fell silent. */
async function lookForPools({ pools, clock }: GatewayPorts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pools.refresh();
    await clock.sleep(POOLS_INTERVAL_MS, signal);
  }
}

async function upkeep(
  { ledger, usage, registry, audit, clock, log }: HostPorts,
  settler: Settler,
  signal: AbortSignal,
) {
  while (!signal.aborted) {
    // First what this gateway settled itself: then pools have less to tell.
    const acknowledge = (entries: readonly LedgerEntry[]) => acknowledgeBooked(registry, entries, log);
    await feedUsage(ledger, usage, acknowledge).catch((error: unknown) => log.error('feed_failed', errorFields(error)));
    await settler.tick();
    await tendLedger(ledger, TENDS_PER_ROUND).catch((error: unknown) => log.error('tend_failed', errorFields(error)));
    const concluded = audit.conclude(clock.now() - ACTION_ENDS_WITHIN_MS);
    await concluded.catch((error: unknown) => log.error('audit_failed', errorFields(error)));
    await clock.sleep(UPKEEP_INTERVAL_MS, signal);
  }
}
