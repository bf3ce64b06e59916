// The Worker's process on this machine, in the Node gateway's place: workerd with the bundle that would be deployed, Durable Objects and D1
// on files in the data folder. For development and for trying the edge out; who serves from his own machine runs `npm start`.
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { LogLevel, Miniflare, Log as MiniflareLog } from 'miniflare';
import { type GatewaySection, isLoopback } from '../gateway/config.ts';
import { ensureDevCredentials } from '../gateway/devCredentials.ts';
import { d1Migrations, statementsOf } from '../gateway/edge/d1Migrations.ts';
import { errorFields, type Log } from '../gateway/log.ts';
import { type GatewayHost, runGatewayProcess } from '../gateway/processProtocol.ts';
import { openSecrets } from '../gateway/secrets.ts';
import { lockFolder } from '../gateway/sqlite.ts';
import { bundleWorker } from './edgeBundle.ts';
import { workerSettings } from './edgeSettings.ts';

const root = join(import.meta.dirname, '..');
/** As often as wrangler.toml's cron trigger. */
const COLLECT_INTERVAL_MS = 300_000;

async function startEdge(section: GatewaySection, log: Log): Promise<GatewayHost> {
  mkdirSync(section.dataDir, { recursive: true, mode: 0o700 });
  const unlock = lockFolder(section.dataDir);
  const secrets = openSecrets(section, (count) => randomBytes(count));
  const { limits, billing, routing, publicPrefixes } = section;
  const { devTokensPerDay, ...defaults } = section.defaults;
  const workerd = new Miniflare({
    ...workerSettings(root),
    modules: true,
    script: await bundleWorker(join(root, 'gateway/worker.ts')),
    host: section.host,
    port: section.port,
    log: new MiniflareLog(LogLevel.ERROR),
    // What the Worker logs are lines for the log, not for what started this process.
    handleRuntimeStdio: (stdout: Readable, stderr: Readable) => {
      stdout.pipe(process.stderr, { end: false });
      stderr.pipe(process.stderr, { end: false });
    },
    unsafeTriggerHandlers: true, // below /cdn-cgi/: nothing but a round of collecting
    defaultPersistRoot: join(section.dataDir, 'workerd'),
    durableObjects: { TENANTS: { className: 'TenantLedger', useSQLite: true } },
    d1Databases: { DB: 'hearth' },
    bindings: {
      HEARTH_ADMIN_KEY: secrets.adminKey,
      HEARTH_NAMESPACE_SECRET: secrets.namespaceSecretHex,
      HEARTH_PEPPERS: JSON.stringify(secrets.peppers),
      HEARTH_POOLS: JSON.stringify(section.pools),
      HEARTH_SETTINGS: JSON.stringify({ defaults, limits, billing, routing, publicPrefixes }),
    },
  });
  const url = (await workerd.ready).origin;
  await migrateD1(workerd);
  const collecting = setInterval(() => {
    const collected = fetch(`${url}/cdn-cgi/handler/scheduled`).then((response) => response.body?.cancel());
    collected.catch((error: unknown) => log.error('collect_failed', errorFields(error)));
  }, COLLECT_INTERVAL_MS);

  const baseURL = `${url}/v1`;
  const credentials =
    section.mode === 'development' && isLoopback(section.host)
      ? await ensureDevCredentials((path, init) => fetch(url + path, init), {
          dataDir: section.dataDir,
          baseURL,
          adminKey: secrets.adminKey,
          tokensPerDay: devTokensPerDay,
        })
      : null;
  return {
    port: Number(new URL(url).port),
    baseURL,
    credentials,
    setPools: null,
    /** Streams that run end with their invocations; their bills are finished at the next start. */
    async stop() {
      clearInterval(collecting);
      await workerd.dispose();
      unlock();
    },
  };
}

/** As `wrangler d1 migrations apply` does it, in the same table. */
async function migrateD1(workerd: Miniflare): Promise<void> {
  const db = await workerd.getD1Database('DB');
  await db.exec('CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)');
  const { results }: { results: { name: string }[] } = await db.prepare('SELECT name FROM d1_migrations').all();
  const applied = new Set(results.map(({ name }) => name));
  for (const { name, text } of d1Migrations()) {
    if (applied.has(name)) continue;
    const noted = db.prepare('INSERT INTO d1_migrations (name) VALUES (?)').bind(name);
    await db.batch([...statementsOf(text).map((statement) => db.prepare(statement)), noted]);
  }
}

await runGatewayProcess(startEdge);
