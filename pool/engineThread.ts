// The engine thread's side: loads, puts to sleep and wakes engines as it is told, turns messages into engine calls and steps into messages. It owns
// the GPU alone, so that nothing the HTTP thread does can delay a step, and no step can delay a health check.
import { setTimeout as sleep } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import { DeviceTurns } from '../engine/deviceShare.ts';
import { Engine, type StepReport } from '../engine/engine.ts';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import { DEFAULT_TOKEN_COSTS } from '../engine/fairQueue.ts';
import { invariant } from '../engine/invariant.ts';
import { divideKvBudget, type KvDemand } from '../engine/kvBudget.ts';
import { PublicPrefixes } from '../engine/publicPrefixes.ts';
import type { SequenceOutput, SequenceRequest } from '../engine/request.ts';
import { type SleepingModel, SleepingRunner } from '../engine/sleepingRunner.ts';
import { ngramSpeculation } from '../engine/speculation/ngramDrafter.ts';
import { TierStore } from '../engine/tiers/tierStore.ts';
import { BlockFeed } from './blockFeed.ts';
import type { SpeculationSection } from './config.ts';
import type { EngineFigures } from './engineDetail.ts';
import type {
  EngineModel,
  EngineSetup,
  FromEngine,
  PreparedEngine,
  TakeAnswer,
  ToEngine,
  WarmModel,
} from './engineMessages.ts';
import { declare, PROOF_ID, realToken, type Served } from './servedEngine.ts';

/** A checked model file, before anything of it is on the device. */
export interface PreparedModel {
  /** Bytes of a KV block over all layers, and of the weights. */
  blockBytes: number;
  weightBytes: number;
  /** What it will run on; nothing is opened yet. */
  model(
    kvBlocks: number,
    onProgress: (stage: string, done: number, total: number) => void,
    onNotice: (message: string) => void,
  ): SleepingModel & { readonly adapterName: string };
  close(): Promise<void>;
}

export type PrepareModel = (model: EngineModel, setup: EngineSetup) => Promise<PreparedModel>;

/** After loading: a prompt long enough for every kernel variant, short enough for seconds on a software adapter, and a decode. */
const WARM_UP = { prompt: 24, output: 2 };
/** To see that an engine computes: one step. */
const PROOF = { prompt: 1, output: 1 };
/** When the thread ends, KV blocks that wait for the disk get this long: what is lost is computed again. */
const TIERS_FLUSH_MS = 1000;
/** A pool that is ready knows what its folder holds, unless finding out takes longer. */
const TIERS_LOOK_LIMIT_MS = 2000;

/** A model that is prepared, and how many blocks it gets. */
interface Prepared {
  model: EngineModel;
  file: PreparedModel;
  kvBlocks: number;
}

export class EngineThread {
  readonly #port: MessagePort;
  readonly #setup: EngineSetup;
  /** By engine. */
  readonly #prepared = new Map<string, Prepared>();
  readonly #served = new Map<string, Served>();
  /** By every name of a model. */
  readonly #byModel = new Map<string, Served>();
  readonly #statusDue = new Set<string>();
  /** All engines of the thread compute on one device. */
  readonly #turns = new DeviceTurns();
  #stopping = false;
  /** What was ordered last; the next order begins when it has ended. */
  #orders: Promise<void> = Promise.resolve();
  /** Of all engines; set by `start`. */
  #tiers: TierStore | null = null;

  constructor(port: MessagePort, setup: EngineSetup) {
    this.#port = port;
    this.#setup = setup;
  }

  /** Prepares all models, reports `prepared`, and does as it is told until `stop`. Never rejects: it tells. */
  async start(prepare: PrepareModel): Promise<void> {
    const { tiers, models, kvBytes } = this.#setup;
    this.#port.on('message', (message: ToEngine) => this.#receive(message));
    const begin = async () => {
      this.#tiers = openTiers(tiers, (message) => this.#post({ type: 'notice', message }));
      const looked = Promise.race([this.#tiers.start(), sleep(TIERS_LOOK_LIMIT_MS, undefined, { ref: false })]);
      const files: PreparedModel[] = [];
      for (const model of models) files.push(await prepare(model, this.#setup));
      for (const [i, kvBlocks] of divideKvBudget(kvBytes, demandsOf(models, files)).entries())
        this.#prepared.set(models[i]!.id, { model: models[i]!, file: files[i]!, kvBlocks });
      await looked;
      this.#post({ type: 'prepared', engines: this.#demands() });
    };
    this.#orders = begin().catch((error: unknown) => this.#fatal(error));
    await this.#orders;
  }

  #demands(): PreparedEngine[] {
    return Array.from(this.#prepared, ([engine, { file, kvBlocks }]) => ({
      engine,
      deviceBytes: file.weightBytes + kvBlocks * file.blockBytes,
    }));
  }

  async #obey({ ticket, engine, order }: Extract<ToEngine, { type: 'order' }>): Promise<void> {
    try {
      this.#throwIfStopping();
      const models = order === 'load' ? await this.#load(engine) : [];
      const served = this.#engine(engine);
      if (order === 'sleep') await this.#sleep(served);
      if (order === 'wake') await this.#wake(served);
      if (order === 'wake' || order === 'probe') await realToken(served, PROOF);
      this.#statusSoon(served);
      this.#post({ type: 'done', ticket, deviceBytes: served.runner.deviceBytes, models });
    } catch (error) {
      if (!(error instanceof StartCancelled)) this.#post({ type: 'undone', ticket, ...describeFatal(error) });
    }
  }

  /** Opens the model, and generates one real token with it. */
  async #load(engine: string): Promise<WarmModel[]> {
    const prepared = this.#prepared.get(engine);
    invariant(prepared && !this.#served.has(engine), 'a prepared engine is loaded once', { engine });
    const { model, file, kvBlocks } = prepared;
    const opening = file.model(
      kvBlocks,
      (stage, done, total) => this.#progress(stage, done, total),
      (message) => this.#post({ type: 'notice', message }),
    );
    const runner = await SleepingRunner.open(opening).catch((error: unknown) => {
      opening.destroy();
      throw error;
    });
    const served = this.#serve(engine, runner, model.speculation);
    for (const { id } of model.served) this.#byModel.set(id, served);
    this.#progress('warm-up', 0, 1);
    await realToken(served, WARM_UP);
    this.#progress('warm-up', 1, 1);
    const { vocabSize, capacityBlocks, fingerprint } = runner;
    return model.served.map(({ id, contextLength }) => ({
      ...{ id, engine, vocabSize, capacityBlocks, fingerprint, adapter: opening.adapterName },
      contextLength: Math.min(contextLength ?? runner.contextLength, runner.contextLength),
    }));
  }

  async #sleep({ engine, runner }: Served): Promise<void> {
    await engine.sleep();
    await runner.sleep();
  }

  async #wake(served: Served): Promise<void> {
    const { engine, runner } = served;
    await runner.wake();
    if (engine.wake() === 'failed') engine.run().catch((error: unknown) => this.#fatal(error));
  }

  /** An order is cancelled here, between two pieces of work: a thread that is killed inside the driver takes the process with it. */
  #progress(stage: string, done: number, total: number): void {
    this.#throwIfStopping();
    this.#post({ type: 'progress', stage, done, total });
  }

  #throwIfStopping(): void {
    if (this.#stopping) throw new StartCancelled('stopped while starting');
  }

  #serve(id: string, runner: SleepingRunner, { kind, maxDraftTokens }: SpeculationSection): Served {
    const { bounds, evictionPolicy } = this.#setup;
    const { maxRunning, cachedTokenCost, ...queue } = bounds;
    const tiers = this.#tiers?.cacheFor(runner.transfer, runner.fingerprint);
    const feed = new BlockFeed();
    const publicPrefixes = new PublicPrefixes();
    const engine = new Engine({
      runner,
      ...(tiers && { tiers }),
      ...{ publicPrefixes, listener: feed, turns: this.#turns },
      ...(kind === 'ngram' && { speculation: ngramSpeculation(maxDraftTokens) }),
      eviction: createEvictionPolicy(evictionPolicy, runner.capacityBlocks),
      clock: Date.now,
      costs: { ...DEFAULT_TOKEN_COSTS, cached: cachedTokenCost },
      limits: { ...queue, maxRunning: Math.min(maxRunning, runner.maxStepLogits, runner.maxStepTokens) },
      onOutputs: (outputs, step) => this.#step(id, outputs, step),
      onFatal: (error) => this.#failed(id, error),
    });
    const served: Served = { id, runner, engine, feed, publicPrefixes, declared: new Map(), proving: null };
    this.#served.set(id, served);
    engine.run().catch((error: unknown) => this.#fatal(error));
    return served;
  }

  #receive(message: ToEngine): void {
    switch (message.type) {
      case 'submit': {
        const served = this.#of(message.model);
        this.#post({ type: 'taken', ticket: message.ticket, answer: submitAll(served.engine, message.sequences) });
        this.#statusSoon(served);
        return;
      }
      case 'cancel': {
        const served = this.#of(message.model);
        for (const id of message.ids) served.engine.cancel(id);
        this.#statusSoon(served);
        return;
      }
      case 'figures':
        this.#post({ type: 'figures', ticket: message.ticket, engines: this.#figures(message.most) });
        return;
      case 'publicPrefixes':
        declare(this.#of(message.model), message);
        return;
      case 'order':
        this.#orders = this.#orders.then(() => this.#obey(message));
        return;
      case 'stop':
        this.#stopping = true;
        void this.#orders.then(() => this.#stop());
    }
  }

  async #stop(): Promise<void> {
    for (const { engine, runner } of this.#served.values()) {
      await engine.stop();
      runner.destroy();
    }
    for (const { file } of this.#prepared.values()) await file.close();
    await this.#tiers?.close(TIERS_FLUSH_MS);
    this.#post({ type: 'stopped' });
    this.#port.close();
  }

  #step(id: string, outputs: SequenceOutput[], { elapsedMs, tokens, prefillMs, decodeMs, ended }: StepReport): void {
    const served = this.#engine(id);
    const told = served.proving ? served.proving(outputs) : outputs;
    if (told.length === 0 && outputs.length > 0) return; // nothing of a proof leaves the thread
    this.#tellBlocks(served);
    const work = { prefillMs, decodeMs, ended: ended.filter((use) => use.id !== PROOF_ID) };
    this.#post({ type: 'step', engine: id, outputs: told, elapsedMs, tokens, work, status: served.engine.status() });
  }

  /** Queue lengths change without a step, too; told once per turn of the loop, behind whatever step is due. */
  #statusSoon(served: Served): void {
    const { id, engine } = served;
    if (this.#statusDue.has(id)) return;
    this.#statusDue.add(id);
    setImmediate(() => {
      this.#statusDue.delete(id);
      this.#tellBlocks(served);
      this.#post({ type: 'status', engine: id, status: engine.status() });
    });
  }

  #figures(most: number): EngineFigures[] {
    return Array.from(this.#served.values(), ({ id, engine }) => ({
      engine: id,
      status: engine.status(),
      use: engine.attribution(most),
      cache: engine.cacheStatus(most),
    }));
  }

  #tellBlocks({ id, feed }: Served): void {
    const changes = feed.take();
    if (changes) this.#post({ type: 'blocks', engine: id, changes }, [changes.tokens.buffer]);
  }

  /** An engine whose device is gone can be woken; anything else that a runner fails with is a bug, and ends the process. */
  #failed(engine: string, error: unknown): void {
    const { code, message } = describeFatal(error);
    if (code === 'device_lost') this.#post({ type: 'lost', engine, message });
    else this.#fatal(error);
  }

  #fatal(error: unknown): void {
    this.#post({ type: 'fatal', ...describeFatal(error) });
  }

  #engine(id: string): Served {
    const served = this.#served.get(id);
    invariant(served, 'messages name an engine that was loaded', { id });
    return served;
  }

  #of(model: string): Served {
    const served = this.#byModel.get(model);
    invariant(served, 'messages name a served model', { model });
    return served;
  }

  #post(message: FromEngine, transfer: ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transfer);
  }
}

function openTiers({ ramBytes, diskFolder, ...others }: EngineSetup['tiers'], onNotice: (line: string) => void) {
  const options = { ...others, diskFolder: diskFolder ?? null, ...(ramBytes !== undefined && { ramBytes }) };
  return new TierStore(options, Date.now, onNotice);
}

function demandsOf(models: readonly EngineModel[], prepared: readonly PreparedModel[]): KvDemand[] {
  return models.map(({ id, kvBlocks, kvWeight }, i) => ({
    ...{ model: id, kvBlocks, weight: kvWeight },
    blockBytes: prepared[i]!.blockBytes,
  }));
}

/** Code and words of an error that ends the engine thread, as they cross to the HTTP thread. */
function describeFatal(error: unknown): { code: string; message: string } {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'engine_failed';
  return { code, message: error instanceof Error ? error.message : String(error) };
}

/** One request that the engine finds inconsistent must not take down the others. */
function submitAll(engine: Engine, sequences: readonly SequenceRequest[]): TakeAnswer {
  try {
    const refusal = engine.submitAll(sequences);
    return refusal ? { kind: 'refused', refusal } : { kind: 'taken' };
  } catch (error) {
    return { kind: 'bug', message: error instanceof Error ? error.message : String(error) };
  }
}

class StartCancelled extends Error {
  override readonly name = 'StartCancelled';
}
