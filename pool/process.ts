// The life of a pool process: section in, everything opened and warm, `ready`, serving, and one of three ends. Asked to stop (or its
// supervisor is gone): drains, exit 0. Engine lost: running requests get an error event, exit 1. Can't start: `fatal`, exit 1.
import { createSecretKey, randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { PUBLIC_NAMESPACE } from '../engine/blockManager.ts';
import { invariant } from '../engine/invariant.ts';
import type { ModelText } from '../engine/model/types.ts';
import { Announcer } from './announcer.ts';
import { type PoolSection, poolSection } from './config.ts';
import { EngineClient, EngineDown } from './engineClient.ts';
import { engineModels } from './engineGroups.ts';
import type { EngineSetup, WarmModel } from './engineMessages.ts';
import { poolStopping } from './errors.ts';
import { Journal } from './journal.ts';
import { KvEvents } from './kvEvents.ts';
import { Lifecycle, type LifecycleSettings, TICK_MS } from './lifecycle/lifecycle.ts';
import { type Listening, listen } from './listen.ts';
import { createLog, errorText, type Log } from './log.ts';
import { PoolMetrics } from './metrics.ts';
import { Pool } from './pool.ts';
import { type ProcessMessage, readSection, sectionIssues } from './processProtocol.ts';
import { Requests } from './requests.ts';
import { type PoolModel, poolModel } from './servedModel.ts';
import { createPoolApp } from './server.ts';

/** How often a journal that failed is tried again. */
const HEAL_INTERVAL_MS = 1000;
/** For the engine thread to tell its figures: it answers between two steps. */
const FIGURES_LIMIT_MS = 2000;
/** How often the supervisor is told how much memory the process takes. */
const MEMORY_INTERVAL_MS = 2000;
/** For last events to reach their sockets. */
const FLUSH_LIMIT_MS = 2000;
/** For the engine to put the device away. */
const ENGINE_STOP_LIMIT_MS = 5000;

export interface ProcessParts {
  stdin: Readable;
  /** One line of the supervisor's protocol. */
  say: (message: ProcessMessage) => void;
  logLine: (line: string) => void;
  /** Resolves at SIGTERM or SIGINT. */
  signalled: Promise<void>;
  engineWorker: URL;
  openText: (path: string) => Promise<ModelText>;
}

/** Runs until the end; resolves with the exit code. */
export async function runPoolProcess(parts: ProcessParts): Promise<number> {
  const log = createLog(parts.logLine, Date.now);
  try {
    const { section: raw, ended } = await readSection(parts.stdin);
    const parsed = poolSection.safeParse(raw);
    if (!parsed.success) throw sectionIssues(parsed.error);
    const stop = Promise.race([parts.signalled, ended]);
    return await new PoolProcess(parts, parsed.data, log).run(stop);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'internal_error';
    log('error', 'fatal', { code, error: errorText(error) });
    parts.say({ type: 'fatal', code, message: error instanceof Error ? error.message : String(error) });
    return 1;
  }
}

class PoolProcess {
  readonly #parts: ProcessParts;
  readonly #section: PoolSection;
  readonly #log: Log;
  readonly #startedAtMs = Date.now();
  readonly #metrics = new PoolMetrics();
  readonly #kvEvents = new KvEvents(randomBytes(8).toString('hex'), PUBLIC_NAMESPACE);
  readonly #down = Promise.withResolvers<EngineDown>();
  readonly #journal: Journal;
  readonly #engine: EngineClient;
  readonly #requests: Requests;
  readonly #lifecycle: Lifecycle;

  constructor(parts: ProcessParts, section: PoolSection, log: Log) {
    this.#parts = parts;
    this.#section = section;
    this.#log = log;
    const { folder, fsync, segmentBytes, maxReceipts } = section.journal;
    this.#journal = new Journal({ folder, fsync, segmentBytes, now: Date.now });
    log('info', 'journal_open', {
      receipts: this.#journal.book.size,
      lost: this.#journal.lostRequests,
      damaged_lines: this.#journal.damagedLines,
    });
    this.#engine = new EngineClient(parts.engineWorker, engineSetup(section), {
      onProgress: (stage, done, total) => parts.say({ type: 'progress', stage, done, total }),
      onStep: (step) => {
        if (step.elapsedMs > 0) this.#metrics.stepSeconds.observe(step.elapsedMs / 1000);
        if (step.tokens > 0) this.#metrics.stepTokens.observe(step.tokens);
        this.#requests.onStep(step);
      },
      onNotice: (message) => log('warn', 'kv_tiers', { message }),
      onBlocks: (engine, changes) => this.#kvEvents.apply(engine, changes),
      onLost: (engine, error) => {
        log('error', 'device_lost', { engine, error: error.message });
        this.#lifecycle.lost(engine, error);
      },
      onDown: (error) => this.#down.resolve(error),
    });
    this.#requests = new Requests({
      engine: this.#engine,
      journal: this.#journal,
      metrics: this.#metrics,
      poolId: section.poolId,
      maxReceipts,
      onEnded: (engine) => this.#lifecycle.ended(engine),
      now: Date.now,
      log,
    });
    const give = (order: 'sleep' | 'wake' | 'probe') => async (engine: string) =>
      (await this.#engine.order(engine, order)).deviceBytes;
    this.#lifecycle = new Lifecycle({
      settings: lifecycleSettings(section),
      orders: { sleep: give('sleep'), wake: give('wake'), probe: give('probe') },
      running: (engine) => this.#requests.ofEngine(engine),
      onBroken: (error) => this.#down.resolve(asDown(error)),
      ...{ metrics: this.#metrics, now: Date.now, log },
    });
  }

  async run(stop: Promise<void>): Promise<number> {
    try {
      const warm = await Promise.race([this.#open(), stop]);
      if (!warm) return 0; // stopped while loading
      return await this.#serve(warm, stop);
    } finally {
      await this.#engine.stop(ENGINE_STOP_LIMIT_MS);
      this.#journal.close();
    }
  }

  async #open(): Promise<PoolModel[]> {
    const texts = Promise.all(
      this.#section.models.map(async ({ id, path }) => ({
        id,
        text: await this.#parts.openText(path),
        created: Math.floor((await stat(path)).mtimeMs / 1000),
      })),
    );
    texts.catch(() => {}); // awaited below, once the engines are warm
    const warm = await this.#load();
    const opened = await texts;
    for (const { id, served } of engineModels(this.#section.models))
      this.#kvEvents.open({
        id,
        models: served.map((one) => one.id),
        capacityBlocks: warmModel(warm, id).capacityBlocks,
      });
    return opened.map(({ id, text, created }) => poolModel(text, warmModel(warm, id), created));
  }

  /** Every engine in turn, so that each is known to work; where not all have room, those loaded first sleep. */
  async #load(): Promise<WarmModel[]> {
    const warm: WarmModel[] = [];
    for (const { engine, deviceBytes } of await this.#engine.prepared())
      await this.#lifecycle.load(engine, deviceBytes, async () => {
        const done = await this.#engine.order(engine, 'load');
        warm.push(...done.models);
        return done.deviceBytes;
      });
    return warm;
  }

  async #serve(models: PoolModel[], stop: Promise<void>): Promise<number> {
    const { host, port, poolId, keys, maxBodyBytes, drainMs } = this.#section;
    const pool = new Pool({
      identity: {
        poolId,
        startedAtMs: this.#startedAtMs,
        secrets: new Map(keys.map(({ id, secretHex }) => [id, createSecretKey(secretHex, 'hex')])),
      },
      models,
      requests: this.#requests,
      lifecycle: this.#lifecycle,
      journal: this.#journal,
      metrics: this.#metrics,
      kvEvents: this.#kvEvents,
      engineFigures: (most) => this.#engine.figures(most, FIGURES_LIMIT_MS),
      tenantMetrics: this.#section.tenantMetrics,
      engineStatus: (engine) => this.#engine.status(engine),
      declarePrefixes: (model, prefixes) => this.#engine.declarePrefixes(model, prefixes),
      maxBodyBytes,
      drawSeed: () => randomBytes(8).readBigUInt64LE(),
      now: Date.now,
      log: this.#log,
    });
    const listening = await listen(createPoolApp(pool), host, port);
    const healing = setInterval(() => this.#journal.heal(), HEAL_INTERVAL_MS);
    const ticking = setInterval(() => this.#lifecycle.tick(), TICK_MS);
    const leaving = new AbortController();
    const announcing = this.#announcer(pool)?.run(leaving.signal);
    const weighing = setInterval(
      () => this.#parts.say({ type: 'memory', rssBytes: process.memoryUsage.rss() }),
      MEMORY_INTERVAL_MS,
    );
    try {
      this.#log('info', 'ready', { port: listening.port, adapter: models[0]?.adapter ?? '' });
      this.#parts.say({ type: 'ready', port: listening.port });
      const down = await Promise.race([stop, this.#down.promise]);
      return down ? await this.#collapse(pool, listening, down) : await this.#drain(pool, listening, drainMs);
    } finally {
      clearInterval(healing);
      leaving.abort();
      await announcing;
      clearInterval(ticking);
      clearInterval(weighing);
    }
  }

  #announcer(pool: Pool): Announcer | null {
    const { announce, poolId, keys } = this.#section;
    const [key] = keys;
    if (!announce || !key) return null;
    return new Announcer({
      ...{ url: announce.url, gateway: announce.gateway.replace(/\/+$/, ''), intervalMs: announce.intervalMs, poolId },
      key: { id: key.id, secret: Buffer.from(key.secretHex, 'hex') },
      status: () => pool.status(),
      log: this.#log,
    });
  }

  /** Running requests finish, bounded by `drainMs`; receipts can be fetched all the while. */
  async #drain(pool: Pool, listening: Listening, drainMs: number): Promise<number> {
    pool.drain();
    const bound = new AbortController();
    const timeout = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, drainMs);
      bound.signal.addEventListener('abort', () => clearTimeout(timer));
    });
    const down = await Promise.race([this.#requests.idle(), timeout, this.#down.promise]);
    bound.abort();
    if (down) return this.#collapse(pool, listening, down);
    this.#requests.failAll({
      error: poolStopping('This pool stopped before the request was finished.'),
      outcome: 'cancelled',
    });
    await listening.close(FLUSH_LIMIT_MS);
    this.#lifecycle.stopped();
    this.#log('info', 'stopped');
    return 0;
  }

  /** The engine is gone, and only a new process brings it back: everybody learns it, then this one ends. */
  async #collapse(pool: Pool, listening: Listening, down: EngineDown): Promise<number> {
    this.#log('error', 'engine_down', { code: down.code, error: down.message });
    pool.drain();
    this.#requests.failAll({ error: poolStopping('The engine of this pool stopped; try again.'), outcome: 'failed' });
    await listening.close(FLUSH_LIMIT_MS);
    this.#parts.say({ type: 'fatal', code: down.code, message: down.message });
    return 1;
  }
}

function lifecycleSettings({ lifecycle }: PoolSection): LifecycleSettings {
  const { sleepAfterMs = null, deviceBytes = null, wakeWaiting: seats, wakeWaitMs: waitMs, ...others } = lifecycle;
  return { sleepAfterMs, deviceBytes, seats, waitMs, ...others };
}

function asDown(error: unknown): EngineDown {
  return error instanceof EngineDown ? error : new EngineDown('engine_failed', errorText(error));
}

function engineSetup({ models, kvBytes, bounds, tiers, evictionPolicy, tuning, dawnFlags }: PoolSection): EngineSetup {
  const shared = { bounds, tiers, evictionPolicy, dawnFlags, tuning: tuning ?? null };
  return { ...shared, kvBytes: kvBytes ?? null, models: engineModels(models) };
}

/** Models come warm in the order of their engines. */
function warmModel(warm: readonly WarmModel[], wanted: string): WarmModel {
  const model = warm.find(({ id }) => id === wanted);
  invariant(model, 'every configured model is warm', { wanted });
  return model;
}
