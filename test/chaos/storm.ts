// Many clients, a gateway and two pools, each a real process that is killed with SIGKILL in the middle of whatever it does. Kills come at
// moments of the storm that its seed decides, counted in requests that ended. Afterwards everything that was promised is looked after.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import { GatewayProcess } from '../support/gatewayProcess.ts';
import type { PagedPoolOptions } from '../support/pagedPool.ts';
import { randomOf } from '../support/random.ts';
import { faultsOf } from './books.ts';
import { type Ending, runClient } from './client.ts';
import { MOST_TOKENS, type PlannedTenant, planRequest, tenantPlans } from './plan.ts';
import { namedOf, openPool, settled } from './stage.ts';

export interface StormOptions {
  seed: number;
  requests: number;
  concurrency: number;
  gatewayKills: number;
  /** Of one pool or the other. */
  poolKills: number;
  /** The pools' engine; none: the simulated one. */
  engine?: PagedPoolOptions;
  model: string;
  say: (line: string) => void;
  /** Falsifies the database once it was looked after, to see that this would be seen. */
  spoil?: (path: string) => void;
}

export interface StormReport {
  faults: string[];
  /** What is found once the database is spoiled. */
  spoiled: string[];
  endings: Record<Ending['kind'], number>;
  /** Tries of all clients, their repeated questions aside. */
  tries: number;
  /** Highest used + held that was seen of each limit, by tenant. */
  most: Record<string, { seen: number; limit: number }>;
  seconds: number;
}

const PROMPT_TOKENS = 60;
const WATCH_EVERY_MS = 50;

export async function storm(options: StormOptions): Promise<StormReport> {
  const { seed, requests, say } = options;
  const startedAtMs = Date.now();
  const folder = mkdtempSync(join(tmpdir(), 'hearth-storm-'));
  const pools = await Promise.all(['pool-a', 'pool-b'].map((id) => openPool(id, folder, options)));
  const named = pools.map(({ pool }) => namedOf(pool, options.model));
  // A request that nobody can tell anything of ends with its hold: soon, so that the storm can be looked after.
  const gateway = await GatewayProcess.start(named, { limits: { requestTimeoutMs: 10_000, holdMarginMs: 1000 } });
  try {
    const tenants = await openTenants(gateway, requests);
    const progress = { ended: 0 };
    const faults: string[] = [];
    const watching = new AbortController();
    const most: StormReport['most'] = {};
    const watched = Promise.all(tenants.map((one) => watch(gateway, one, most, faults, watching.signal)));
    const [endings] = await Promise.all([
      runClients(gateway, tenants, options, progress),
      strike(options, progress, 'gateway', options.gatewayKills, async () => {
        await gateway.kill();
        await gateway.boot();
      }),
      strike(options, progress, 'pool', options.poolKills, async (random) => {
        const one = pools[Math.floor(random() * pools.length)];
        invariant(one, 'there are pools');
        while (!one.serves()) await sleep(5);
        one.kill();
      }),
    ]);
    await settled(gateway, pools);
    watching.abort();
    await watched;
    await gateway.kill();
    const receipts = pools.flatMap(({ archive }) => [...archive.receipts().values()]);
    const moved = receipts.length - new Set(receipts.map(({ request_id }) => request_id)).size;
    const told = endings.flatMap((ending) => (ending.kind === 'answered' ? ending.told : []));
    faults.push(...endings.flatMap((ending) => (ending.kind === 'wrong' ? ending.what : [])));
    const records = { path: join(gateway.folder, 'gateway.sqlite'), receipts, tenants, told };
    faults.push(...faultsOf(records));
    options.spoil?.(records.path);
    const spoiled = options.spoil ? faultsOf(records) : [];
    say(
      `${receipts.length} receipts, ${moved} requests at both pools, ${told.length} answers of ${requests}; seed ${seed}`,
    );
    return {
      ...{ faults, spoiled, most, endings: tallyOf(endings) },
      tries: endings.reduce((sum, one) => sum + ('tries' in one ? one.tries : 0), 0),
      seconds: (Date.now() - startedAtMs) / 1000,
    };
  } finally {
    await gateway.stop();
    await Promise.all(pools.map((pool) => pool.close()));
    rmSync(folder, { recursive: true, force: true });
  }
}

async function openTenants(gateway: GatewayProcess, requests: number): Promise<PlannedTenant[]> {
  const plans = tenantPlans(requests * (PROMPT_TOKENS + MOST_TOKENS));
  return Promise.all(
    plans.map(async (plan) => {
      const tenant = await gateway.tenant([{ window: 'lifetime', limit_tokens: plan.lifetimeTokens }]);
      const rates = {
        ...(plan.requestsPerMinute !== undefined && { max_requests_per_1_minute: plan.requestsPerMinute }),
        ...(plan.atOnce !== undefined && { max_concurrent_requests: plan.atOnce }),
      };
      if (Object.keys(rates).length > 0) await gateway.admin('POST', `/projects/${tenant.id}/rate_limits/rl-*`, rates);
      return { ...plan, tenant };
    }),
  );
}

async function runClients(
  gateway: GatewayProcess,
  tenants: readonly PlannedTenant[],
  { seed, requests, concurrency, model }: StormOptions,
  progress: { ended: number },
): Promise<Ending[]> {
  const random = randomOf(seed);
  const planned = Array.from({ length: requests }, (_, n) => planRequest(n, tenants, model, random));
  const endings: Ending[] = [];
  const queue = planned.values();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (const one of queue) {
        const tenant = tenants[one.tenant];
        invariant(tenant, 'a planned request has its tenant');
        endings.push(await runClient(gateway, one, tenant));
        progress.ended += 1;
      }
    }),
  );
  return endings;
}

/** Kills at drawn moments between the first requests and the last. */
async function strike(
  { seed, requests, say }: StormOptions,
  progress: { ended: number },
  what: string,
  times: number,
  kill: (random: () => number) => Promise<void>,
): Promise<void> {
  const random = randomOf(seed + what.length);
  const moments = Array.from({ length: times }, () => Math.floor(requests * (0.02 + 0.93 * random())));
  for (const moment of moments.sort((a, b) => a - b)) {
    while (progress.ended < moment) await sleep(5);
    await sleep(random() * 100);
    await kill(random);
    say(`killed the ${what} after ${progress.ended} requests`);
  }
}

/** used + held ≤ limit, whenever one looks. */
async function watch(
  gateway: GatewayProcess,
  { name, tenant }: PlannedTenant,
  most: StormReport['most'],
  faults: string[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const limits = await gateway.limits(tenant.key).catch(() => []);
    for (const { metric, window, limit, used, held } of limits) {
      const at = `${name}: ${metric} ${window}`;
      most[at] = { seen: Math.max(most[at]?.seen ?? 0, used + held), limit };
      if (used + held > limit) faults.push(`${at} at ${used} + ${held} of ${limit}`);
    }
    await sleep(WATCH_EVERY_MS);
  }
}

function tallyOf(endings: readonly Ending[]): StormReport['endings'] {
  const tally = { answered: 0, refused: 0, lost: 0, given_up: 0, wrong: 0 };
  for (const { kind } of endings) tally[kind] += 1;
  return tally;
}
