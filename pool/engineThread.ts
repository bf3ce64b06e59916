// The engine thread's side: opens and warms every model, then turns messages into engine calls and steps into messages. It owns
// the GPU alone, so that nothing the HTTP thread does can delay a step, and no step can delay a health check.
import { setTimeout as sleep } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import { Engine, type StepReport } from '../engine/engine.ts';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import { DEFAULT_TOKEN_COSTS } from '../engine/fairQueue.ts';
import { invariant } from '../engine/invariant.ts';
import { divideKvBudget, type KvDemand } from '../engine/kvBudget.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import { PublicPrefixes } from '../engine/publicPrefixes.ts';
import type { SequenceOutput, SequenceRequest } from '../engine/request.ts';
import { ngramSpeculation } from '../engine/speculation/ngramDrafter.ts';
import { TierStore } from '../engine/tiers/tierStore.ts';
import { BlockFeed } from './blockFeed.ts';
import type { SpeculationSection } from './config.ts';
import type { EngineFigures } from './engineDetail.ts';
import type { EngineModel, EngineSetup, FromEngine, TakeAnswer, ToEngine, WarmModel } from './engineMessages.ts';
import { declare, type Served, warmUp } from './servedEngine.ts';

/** A checked model file, before anything of it is on the device. */
export interface PreparedModel {
  /** Bytes of a KV block over all layers. */
  blockBytes: number;
  open(
    kvBlocks: number,
    onProgress: (stage: string, done: number, total: number) => void,
    onNotice: (message: string) => void,
  ): Promise<{ runner: ModelRunner; adapter: string }>;
  close(): Promise<void>;
}

export type PrepareModel = (model: EngineModel, setup: EngineSetup) => Promise<PreparedModel>;

/** When the thread ends, KV blocks that wait for the disk get this long: what is lost is computed again. */
const TIERS_FLUSH_MS = 1000;
/** A pool that is ready knows what its folder holds, unless finding out takes longer. */
const TIERS_LOOK_LIMIT_MS = 2000;

export class EngineThread {
  readonly #port: MessagePort;
  /** By engine. */
  readonly #served = new Map<string, Served>();
  /** By every name of a model. */
  readonly #byModel = new Map<string, Served>();
  readonly #statusDue = new Set<string>();
  #state: 'starting' | 'serving' | 'stopping' = 'starting';
  /** Of all engines; set by `start`. */
  #tiers: TierStore | null = null;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (message: ToEngine) => this.#receive(message));
  }

  /** Opens all models, generates one real token with each, reports `ready`, and serves until `stop`. Never rejects: it tells. */
  async start(setup: EngineSetup, prepare: PrepareModel): Promise<void> {
    const prepared: PreparedModel[] = [];
    try {
      this.#tiers = openTiers(setup.tiers, (message) => this.#post({ type: 'notice', message }));
      const looked = Promise.race([this.#tiers.start(), sleep(TIERS_LOOK_LIMIT_MS, undefined, { ref: false })]);
      for (const model of setup.models) prepared.push(await prepare(model, setup));
      const warm: WarmModel[] = [];
      for (const [i, kvBlocks] of divideKvBudget(setup.kvBytes, demandsOf(setup.models, prepared)).entries())
        warm.push(...(await this.#open(setup.models[i]!, prepared[i]!, kvBlocks, setup)));
      await looked;
      this.#throwIfStopping();
      this.#state = 'serving';
      for (const { id, engine } of this.#served.values())
        this.#post({ type: 'status', engine: id, status: engine.status() });
      this.#post({ type: 'ready', models: warm });
    } catch (error) {
      if (error instanceof StartCancelled) await this.#stop();
      else this.#fatal(error);
    } finally {
      for (const model of prepared) await model.close();
    }
  }

  async #open(
    { id: engine, served: names, speculation }: EngineModel,
    prepared: PreparedModel,
    kvBlocks: number,
    setup: EngineSetup,
  ): Promise<WarmModel[]> {
    const { runner, adapter } = await prepared.open(
      kvBlocks,
      (stage, done, total) => this.#progress(stage, done, total),
      (message) => this.#post({ type: 'notice', message }),
    );
    const served = this.#serve(engine, runner, speculation, setup);
    for (const { id } of names) this.#byModel.set(id, served);
    this.#progress('warm-up', 0, 1);
    await warmUp(served);
    this.#progress('warm-up', 1, 1);
    const { vocabSize, capacityBlocks, fingerprint } = runner;
    return names.map(({ id, contextLength }) => ({
      ...{ id, engine, vocabSize, capacityBlocks, fingerprint, adapter },
      contextLength: Math.min(contextLength ?? runner.contextLength, runner.contextLength),
    }));
  }

  /** A start is cancelled here, between two pieces of work: a thread that is killed inside the driver takes the process with it. */
  #progress(stage: string, done: number, total: number): void {
    this.#throwIfStopping();
    this.#post({ type: 'progress', stage, done, total });
  }

  #throwIfStopping(): void {
    if (this.#state === 'stopping') throw new StartCancelled('stopped while starting');
  }

  #serve(id: string, runner: ModelRunner, { kind, maxDraftTokens }: SpeculationSection, setup: EngineSetup): Served {
    const { maxRunning, cachedTokenCost, ...queue } = setup.bounds;
    const tiers = this.#tiers?.cacheFor(runner.transfer, runner.fingerprint);
    const feed = new BlockFeed();
    const publicPrefixes = new PublicPrefixes();
    const engine = new Engine({
      runner,
      ...(tiers && { tiers }),
      ...{ publicPrefixes, listener: feed },
      ...(kind === 'ngram' && { speculation: ngramSpeculation(maxDraftTokens) }),
      eviction: createEvictionPolicy(setup.evictionPolicy, runner.capacityBlocks),
      clock: Date.now,
      costs: { ...DEFAULT_TOKEN_COSTS, cached: cachedTokenCost },
      limits: { ...queue, maxRunning: Math.min(maxRunning, runner.maxStepLogits, runner.maxStepTokens) },
      onOutputs: (outputs, step) => this.#step(id, outputs, step),
      onFatal: (error) => this.#fatal(error),
    });
    const served: Served = { id, runner, engine, feed, publicPrefixes, declared: new Map(), warming: null };
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
      case 'stop':
        if (this.#state === 'serving') void this.#stop();
        this.#state = 'stopping';
    }
  }

  async #stop(): Promise<void> {
    for (const { engine, runner } of this.#served.values()) {
      await engine.stop();
      runner.destroy();
    }
    await this.#tiers?.close(TIERS_FLUSH_MS);
    this.#post({ type: 'stopped' });
    this.#port.close();
  }

  #step(id: string, outputs: SequenceOutput[], { elapsedMs, tokens }: StepReport): void {
    const served = this.#served.get(id);
    invariant(served, 'a step is of an engine that was opened', { id });
    if (served.warming) {
      served.warming(outputs);
      return;
    }
    this.#tellBlocks(served);
    this.#post({ type: 'step', engine: id, outputs, elapsedMs, tokens, status: served.engine.status() });
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

  #fatal(error: unknown): void {
    this.#post({ type: 'fatal', ...describeFatal(error) });
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
