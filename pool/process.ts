// The life of a pool process: section in, everything opened and warm, `ready`, serving, and one of three ends. Asked to stop (or its
// supervisor is gone): drains, exit 0. Engine lost: running requests get an error event, exit 1. Can't start: `fatal`, exit 1.
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { PUBLIC_NAMESPACE } from '../engine/blockManager.ts';
import { invariant } from '../engine/invariant.ts';
import type { ModelText } from '../engine/model/types.ts';
import { type PoolSection, poolSection } from './config.ts';
import { ServiceMeter } from './cost/serviceMeter.ts';
import { EngineClient, EngineDown } from './engineClient.ts';
import { engineModels } from './engineGroups.ts';
import type { EngineSetup, WarmModel } from './engineMessages.ts';
import type { Journal } from './journal.ts';
import { KvEvents } from './kvEvents.ts';
import { Lifecycle, type LifecycleSettings } from './lifecycle/lifecycle.ts';
import { errorText, type Log } from './log.ts';
import { PoolMetrics } from './metrics.ts';
import { Pool } from './pool.ts';
import { type ProcessIo, runProcess } from './processProtocol.ts';
import { Requests } from './requests.ts';
import { type PoolModel, poolModel } from './servedModel.ts';
import { createPoolApp } from './server.ts';
import { identityOf, openJournal, type Served, serve } from './serving.ts';
import { nanoOf, type ServicePrice } from './wire/service.ts';

/** For the engine thread to tell its figures: it answers between two steps. */
const FIGURES_LIMIT_MS = 2000;
/** For the engine to put the device away. */
const ENGINE_STOP_LIMIT_MS = 5000;

export interface ProcessParts extends ProcessIo {
  engineWorker: URL;
  openText: (path: string) => Promise<ModelText>;
}

/** Runs until the end; resolves with the exit code. */
export function runPoolProcess(parts: ProcessParts): Promise<number> {
  return runProcess(parts, poolSection, (section, log, stop) => new PoolProcess(parts, section, log).run(stop));
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
  readonly #service: ServiceMeter;

  constructor(parts: ProcessParts, section: PoolSection, log: Log) {
    this.#parts = parts;
    this.#section = section;
    this.#log = log;
    this.#journal = openJournal(section.journal, log);
    this.#service = new ServiceMeter({
      engines: engineModels(section.models).map(({ id }) => id),
      price: priceOf(section),
      now: Date.now,
    });
    this.#engine = new EngineClient(parts.engineWorker, engineSetup(section), {
      onProgress: (stage, done, total) => parts.say({ type: 'progress', stage, done, total }),
      onStep: (step) => {
        if (step.elapsedMs > 0) this.#metrics.stepSeconds.observe(step.elapsedMs / 1000);
        if (step.tokens > 0) this.#metrics.stepTokens.observe(step.tokens);
        this.#service.step(step.engine, step.work);
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
      maxReceipts: section.journal.maxReceipts,
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
    const pool = new Pool({
      identity: identityOf(this.#section, this.#startedAtMs),
      models,
      requests: this.#requests,
      lifecycle: this.#lifecycle,
      service: this.#service,
      journal: this.#journal,
      metrics: this.#metrics,
      kvEvents: this.#kvEvents,
      engineFigures: (most) => this.#engine.figures(most, FIGURES_LIMIT_MS),
      tenantMetrics: this.#section.tenantMetrics,
      engineStatus: (engine) => this.#engine.status(engine),
      declarePrefixes: (model, prefixes) => this.#engine.declarePrefixes(model, prefixes),
      maxBodyBytes: this.#section.maxBodyBytes,
      drawSeed: () => randomBytes(8).readBigUInt64LE(),
      now: Date.now,
      log: this.#log,
    });
    const served: Served = {
      app: createPoolApp(pool),
      journal: this.#journal,
      requests: this.#requests,
      status: () => pool.status(),
      metricsText: () => pool.metricsText(),
      drain: () => pool.drain(),
      tick: () => {
        this.#lifecycle.tick();
        this.#service.tick();
      },
      stopped: () => this.#lifecycle.stopped(),
      down: this.#down.promise,
      adapter: models[0]?.adapter ?? '',
    };
    return serve({ say: this.#parts.say, log: this.#log }, this.#section, served, stop);
  }
}

function lifecycleSettings({ lifecycle }: PoolSection): LifecycleSettings {
  const { sleepAfterMs = null, deviceBytes = null, wakeWaiting: seats, wakeWaitMs: waitMs, ...others } = lifecycle;
  return { sleepAfterMs, deviceBytes, seats, waitMs, ...others };
}

function priceOf({ pricePerHour, currency }: PoolSection): ServicePrice | null {
  return pricePerHour === undefined ? null : { nano_per_hour: nanoOf(pricePerHour), currency };
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
