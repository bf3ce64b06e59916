// The app on Node: SQLite beneath the ledger, node:http in front, loops that poll pools, settle bills and feed usage. Starting gives a
// handle whose `stop` drains: accept nothing new, let running requests end within a bound, hang up on the rest, settle, close.
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createApp } from './app.ts';
import { type Clock, systemClock } from './clock.ts';
import { type GatewaySection, isLoopback } from './config.ts';
import { type DevCredentials, ensureDevCredentials } from './devCredentials.ts';
import { SqliteDirectory } from './directory/sqliteDirectory.ts';
import { SqlitePrefixes } from './directory/sqlitePrefixes.ts';
import { SqlLedger } from './ledger/sqlLedger.ts';
import { createListener, type Listener, listen, watchCertificate } from './listener.ts';
import { errorFields, type Log } from './log.ts';
import { Metrics } from './metrics.ts';
import { MIGRATIONS } from './migrations.ts';
import type { GatewayPorts } from './ports.ts';
import { PoolClient } from './relay/poolClient.ts';
import { PoolRegistry } from './relay/poolRegistry.ts';
import { PromptCounts } from './relay/promptCount.ts';
import { PublicPrefixes } from './relay/publicPrefixes.ts';
import { Settler } from './relay/settler.ts';
import { openKeyring } from './secrets.ts';
import { lockFolder, openDatabase } from './sqlite.ts';
import { feedUsage } from './usage/feed.ts';
import { SqliteUsage } from './usage/sqliteUsage.ts';

/** The usage table follows the ledger within this; reading it brings it up to date at once. */
const FEED_INTERVAL_MS = 1000;
/** While draining, connections that fell idle are closed this often: kept alive they would hold the server open. */
const CLOSE_IDLE_INTERVAL_MS = 25;
/** After hanging up on clients, their requests have this long to unwind. */
const HANG_UP_GRACE_MS = 1000;

export interface GatewayHost {
  port: number;
  baseURL: string;
  /** In development mode on loopback. */
  credentials: DevCredentials | null;
  stop(): Promise<void>;
}

/** Throws ConfigError, with the remedy, for what the operator can mend. */
export async function startGateway(section: GatewaySection, log: Log): Promise<GatewayHost> {
  mkdirSync(section.dataDir, { recursive: true, mode: 0o700 });
  const random = (count: number) => randomBytes(count);
  const unlock = lockFolder(section.dataDir);
  const keyring = openKeyring(section, random);
  const db = openDatabase(join(section.dataDir, 'gateway.sqlite'), section.synchronous, MIGRATIONS);
  const clock = systemClock;
  const ledger = new SqlLedger(db);
  const usage = new SqliteUsage(db);
  const metrics = new Metrics();
  const publicPrefixes = new PublicPrefixes(new SqlitePrefixes(db), section.publicPrefixes, keyring, log);
  await publicPrefixes.load();
  const registry = new PoolRegistry(
    section.pools.map(({ id, url, keyId, secretHex, models }) => ({
      client: new PoolClient(
        { id, url: url.replace(/\/+$/, ''), keyId, secret: Buffer.from(secretHex, 'hex') },
        { fetch, clock, random },
      ),
      models,
    })),
    clock,
    (pool) => void publicPrefixes.publish(pool),
  );
  const settler = new Settler({ ledger, registry, clock, log, metrics });
  const hangUp = new AbortController();
  const ports: GatewayPorts = {
    settings: { ...section.defaults, ...section.limits },
    ...{ keyring, ledger, usage, metrics, registry, publicPrefixes, settler, clock, random, log },
    directory: new SqliteDirectory(db),
    counts: new PromptCounts(),
    hangUp: hangUp.signal,
  };

  const server = createListener(createApp(ports).fetch, section);
  const port = await listen(server, section.host, section.port);
  const baseURL = `${section.tls ? 'https' : 'http'}://${section.host.includes(':') ? `[${section.host}]` : section.host}:${port}/v1`;
  const credentials =
    section.mode === 'development' && isLoopback(section.host)
      ? await ensureDevCredentials(ports, {
          dataDir: section.dataDir,
          baseURL,
          tokensPerDay: section.defaults.devTokensPerDay,
        })
      : null;

  const stopping = new AbortController();
  const { signal } = stopping;
  const loops = [
    registry.run(signal),
    settler.run(),
    feed(ports, signal),
    watchCertificate(server, section, { clock, log, signal }),
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
    await feedUsage(ledger, usage);
    db.close();
    unlock();
  }
  return { port, baseURL, credentials, stop };
}

async function closeIdle(server: Listener, clock: Clock, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    server.closeIdleConnections();
    await clock.sleep(CLOSE_IDLE_INTERVAL_MS, signal);
  }
}

async function feed({ ledger, usage, clock, log }: GatewayPorts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await feedUsage(ledger, usage).catch((error: unknown) => log.error('feed_failed', errorFields(error)));
    await clock.sleep(FEED_INTERVAL_MS, signal);
  }
}
