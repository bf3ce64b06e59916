// The whole product under mixed load for as long as one likes, with pools put to sleep and replaced meanwhile, and its processes watched:
// what grows with time or requests shows as a slope, what is not given back as a difference to the start.
//
//   ready, idle: baseline ─▶ load (replacements at its beginning; slopes of its second half) ─▶ idle again: all back?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { CACHE_KIB } from '../../gateway/sqlite.ts';
import { poolStatus, receiptsAnswer } from '../../pool/wire/events.ts';
import { ADMIN_KEY, type GatewayClient } from '../support/gatewayClient.ts';
import { GatewayProcess } from '../support/gatewayProcess.ts';
import { PagedFleet } from '../support/pagedFleet.ts';
import type { PagedPoolOptions } from '../support/pagedPool.ts';
import { randomOf } from '../support/random.ts';
import { askPool } from '../support/signedPoolClient.ts';
import { load, type Tally, type Tenants } from './load.ts';
import { FIGURES, type Figure, type Sample, type Slope, slopeOf } from './slopes.ts';
import { Watch } from './watch.ts';

export interface SoakOptions {
  durationMs: number;
  clients: number;
  seed: number;
  model: string;
  /** The pools'; none: the simulated one. */
  engine?: PagedPoolOptions;
  say: (line: string) => void;
}

export interface SoakReport {
  tally: Tally;
  slopes: { process: string; pid: number; figure: Figure; slope: Slope }[];
  /** Of each process' event loop. */
  worstLagMs: Record<string, number>;
  faults: string[];
}

const SAMPLES = 120;
const LEAST_SAMPLE_MS = 1000;
const SLEEP_EVERY_MS = 20_000;
const ASLEEP_MS = 500;
/** Shares of the duration at which all pools are replaced: early, so that what has a bound is full before the second half. */
const REPLACED_AT = [0.05, 0.12];
/** Before that, code is compiled and caches fill. */
const LEAST_JUDGED_MS = 600_000;
/** Host memory for the pools' KV blocks: full before anybody measures. */
const TIER_BYTES = 4_000_000;
/** Connections that are kept for the next request are closed by then. */
const BACK_WITHIN_MS = 100_000;
/** Descriptors that a process may have more than it began with: a connection that is just being asked over. */
const SPARE_FDS = 4;

export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { durationMs, model, say } = options;
  const folder = mkdtempSync(join(tmpdir(), 'hearth-soak-'));
  const watch = new Watch();
  let gateway: GatewayProcess | null = null;
  const engine = options.engine ?? { models: [{ id: model, kvBlocks: 256 }], model: { stepMs: 4 } };
  const section = { ...engine.section, tiers: { ramBytes: TIER_BYTES } };
  const own = { ...engine, section, supervisor: { ...engine.supervisor, env: { ...process.env, ...watch.env } } };
  const pools = await PagedFleet.start({
    ...{ folder, pools: { a: own, b: own } },
    announce: async (list) => gateway?.setPools(list),
  });
  const over = new AbortController();
  try {
    const named = pools.fleet.entries.map((pool) => ({ ...pool, model }));
    const env = { ...process.env, ...watch.env };
    gateway = await GatewayProcess.start(named, { limits: { requestTimeoutMs: 60_000, holdMarginMs: 5000 } }, { env });
    const soaked = new Soaked(gateway, pools, watch);
    const tenants = await openTenants(gateway, model);
    const before = await soaked.fds();
    const tally: Tally = new Map();
    const startedAtMs = Date.now();
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), durationMs);
    over.signal.addEventListener('abort', () => stop.abort());
    const all = AbortSignal.any([stop.signal, over.signal]);
    await Promise.all([
      load({ ...options, gateway, tenants }, tally, all),
      sample(soaked, Math.max(LEAST_SAMPLE_MS, durationMs / SAMPLES), all),
      naps(pools, options.seed, all, say),
      replacements(pools, startedAtMs, durationMs, all, say),
    ]).finally(() => clearTimeout(timer));
    say('idle');
    const faults = await soaked.leftovers(before);
    const slopes = soaked.slopes(startedAtMs + durationMs / 2);
    const judged = durationMs >= LEAST_JUDGED_MS;
    if (!judged) say(`${durationMs / 1000} s are a start: its slopes accuse nobody.`);
    else if (slopes.length < 3 * FIGURES.length) faults.push(`only ${slopes.length} figures were sampled often enough`);
    faults.push(
      ...slopes.flatMap(({ process, figure, slope }) => (judged && slope.leaks ? `${process}: ${figure} grows` : [])),
      ...unexpected(tally),
      ...pools.failures.map(String),
    );
    return { tally, slopes, worstLagMs: Object.fromEntries(soaked.worstLagMs), faults };
  } finally {
    over.abort();
    await gateway?.stop();
    await pools.fleet.stop();
    watch.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Processes, what they held when, and whether they give it back. */
class Soaked {
  readonly worstLagMs = new Map<string, number>();
  readonly #gateway: GatewayProcess;
  readonly #pools: PagedFleet;
  readonly #watch: Watch;
  readonly #series = new Map<number, { process: string; samples: Sample[] }>();

  constructor(gateway: GatewayProcess, pools: PagedFleet, watch: Watch) {
    this.#gateway = gateway;
    this.#pools = pools;
    this.#watch = watch;
  }

  /** By slot, whichever of its two names serves. */
  get #processes(): { process: string; pid: number }[] {
    const pools = this.#pools.serving.map(({ poolId }) => ({
      process: `pool ${poolId.replace(/~$/, '')}`,
      pid: this.#pools.pidOf(poolId),
    }));
    return [{ process: 'gateway', pid: this.#gateway.pid }, ...pools];
  }

  async sample(): Promise<void> {
    for (const { process, pid } of this.#processes) {
      const vitals = await this.#watch.of(pid);
      if (!vitals) continue;
      if (process === 'gateway') vitals.anonBytes -= this.#pageCacheBytes();
      const series = this.#series.get(pid) ?? { process, samples: [] };
      this.#series.set(pid, series);
      series.samples.push({ atMs: Date.now(), vitals });
      this.worstLagMs.set(process, Math.max(this.worstLagMs.get(process) ?? 0, vitals.lagMs));
    }
  }

  /** Pages of the database that SQLite keeps: they grow with the bill that it is there for, and have their own bound. */
  #pageCacheBytes(): number {
    const db = new DatabaseSync(join(this.#gateway.folder, 'gateway.sqlite'), { readOnly: true });
    try {
      const size = 'SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()';
      return Math.min(CACHE_KIB * 1024, z.object({ bytes: z.int() }).parse(db.prepare(size).get()).bytes);
    } finally {
      db.close();
    }
  }

  async fds(): Promise<Map<string, number>> {
    const fds = new Map<string, number>();
    for (const { process, pid } of this.#processes) fds.set(process, (await this.#watch.of(pid))?.fds ?? 0);
    return fds;
  }

  /** Of processes that live still, as far as they have enough samples. */
  slopes(sinceMs: number): SoakReport['slopes'] {
    return this.#processes.flatMap(({ process, pid }) =>
      FIGURES.flatMap((figure) => {
        const slope = slopeOf(this.#series.get(pid)?.samples ?? [], figure, sinceMs);
        return slope ? { process, pid, figure, slope } : [];
      }),
    );
  }

  /** What has not been given back when everybody had time for it. */
  async leftovers(fdsBefore: ReadonlyMap<string, number>): Promise<string[]> {
    const untilMs = Date.now() + BACK_WITHIN_MS;
    for (;;) {
      const left = await this.#left(fdsBefore);
      if (left.length === 0 || Date.now() > untilMs) return left;
      await sleep(1000);
    }
  }

  async #left(fdsBefore: ReadonlyMap<string, number>): Promise<string[]> {
    const left: string[] = [];
    const holds = await heldOf(this.#gateway);
    if (holds !== 0) left.push(`${holds} holds are open`);
    for (const address of this.#pools.serving) {
      const { poolId: id } = address;
      const get = async (path: string) => (await askPool(address, { method: 'GET', path })).json;
      const status = poolStatus.parse(await get('/pool/status'));
      if (status.running + status.waiting > 0) left.push(`pool ${id} computes for nobody: ${JSON.stringify(status)}`);
      if (status.blocks_free !== status.blocks_total)
        left.push(`pool ${id} has ${status.blocks_free} of ${status.blocks_total} KV blocks free`);
      const { receipts } = receiptsAnswer.parse(await get('/pool/receipts?limit=100'));
      if (receipts.length > 0)
        left.push(`pool ${id} keeps ${receipts.length} receipts: ${JSON.stringify(receipts[0])}`);
    }
    for (const [process, now] of await this.fds()) {
      const before = fdsBefore.get(process) ?? 0;
      if (now > before + SPARE_FDS) left.push(`${process} has ${now} descriptors open; it began with ${before}`);
    }
    return left;
  }
}

async function openTenants(gateway: GatewayProcess, model: string): Promise<Tenants> {
  const [wide, spent] = await Promise.all([
    gateway.tenant([{ window: 'lifetime', limit_tokens: 1_000_000_000 }]),
    // No request of the load is larger than all of it: that would be a 400.
    gateway.tenant([{ window: 'lifetime', limit_tokens: 500 }]),
  ]);
  for (const maxTokens of [100, 1]) {
    const body = { model, prompt: 'x', max_tokens: maxTokens, temperature: 0 };
    const ask = async () => {
      const answer = await gateway.request('POST', '/v1/completions', { key: spent.key, body });
      await answer.arrayBuffer();
      return answer.status;
    };
    while ((await ask()) === 200);
  }
  return { wide, spent };
}

/** As the gateway counts them; NaN: it doesn't. */
async function heldOf(gateway: GatewayClient): Promise<number> {
  const text = await (await gateway.request('GET', '/metrics', { key: ADMIN_KEY })).text();
  const counts = [...text.matchAll(/^hearth_gateway_holds{.*} (\d+)$/gm)].map(([, n]) => Number(n));
  return counts.length > 0 ? counts.reduce((sum, n) => sum + n, 0) : Number.NaN;
}

async function sample(soaked: Soaked, everyMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await soaked.sample();
    await sleep(everyMs, undefined, { signal }).catch(() => {});
  }
}

/** One pool's model after another is put to sleep, and woken by whoever asks, at the latest by us. */
async function naps(pools: PagedFleet, seed: number, signal: AbortSignal, say: (line: string) => void): Promise<void> {
  const random = randomOf(seed);
  while (!signal.aborted) {
    await sleep(SLEEP_EVERY_MS, undefined, { signal }).catch(() => {});
    const one = pools.serving[Math.floor(random() * pools.serving.length)];
    if (signal.aborted || !one) continue;
    const move = (path: string) => askPool(one, { path, body: {} });
    try {
      await move('/pool/sleep');
      await sleep(ASLEEP_MS);
      await move('/pool/wake');
    } catch (error) {
      say(`${one.poolId} did not sleep: ${String(error)}`); // it was being replaced
    }
  }
}

async function replacements(
  pools: PagedFleet,
  startedAtMs: number,
  durationMs: number,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<void> {
  for (const share of REPLACED_AT) {
    const pauseMs = startedAtMs + share * durationMs - Date.now();
    await sleep(Math.max(0, pauseMs), undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    await pools.fleet.replaceAll(pools.plans);
    invariant(pools.failures.length === 0, 'no pool is given up', { said: pools.said.at(-1) });
    say(`replaced all pools at ${Math.round((100 * (Date.now() - startedAtMs)) / durationMs)} %`);
  }
}

/** Whoever does not leave gets an answer, and whoever has no quota left is told so. */
function unexpected(tally: Tally): string[] {
  const expected = /^(stream|plain|keyed|leaves): 200(, again 200)?$|^leaves: cut$|^over quota: 429$/;
  return [...tally].flatMap(([name, n]) => (expected.test(name) ? [] : `${n} × ${name}`));
}
