// The engine thread's side: opens and warms every model, then turns messages into engine calls and steps into messages. It owns
// the GPU alone, so that nothing the HTTP thread does can delay a step, and no step can delay a health check.
import { setTimeout as sleep } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';
import { Engine } from '../engine/engine.ts';
import { DEFAULT_TOKEN_COSTS } from '../engine/fairQueue.ts';
import { invariant } from '../engine/invariant.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import { GREEDY, type SequenceOutput, type SequenceRequest } from '../engine/request.ts';
import { TierStore } from '../engine/tiers/tierStore.ts';
import type { EngineModel, EngineSetup, FromEngine, TakeAnswer, ToEngine, WarmModel } from './engineMessages.ts';

export type OpenRunner = (
  model: EngineModel,
  setup: EngineSetup,
  onProgress: (stage: string, done: number, total: number) => void,
) => Promise<{ runner: ModelRunner; adapter: string }>;

/** Prompt of the warm-up: long enough for every kernel variant, short enough for seconds on a software adapter. */
const WARM_UP_TOKENS = 24;
/** When the thread ends, KV blocks that wait for the disk get this long: what is lost is computed again. */
const TIERS_FLUSH_MS = 1000;
/** A pool that is ready knows what its folder holds, unless finding out takes longer. */
const TIERS_LOOK_LIMIT_MS = 2000;

interface Served {
  id: string;
  runner: ModelRunner;
  engine: Engine;
  /** Set while the warm-up's outputs are awaited; nothing of it leaves the thread. */
  warming: ((outputs: SequenceOutput[]) => void) | null;
}

export class EngineThread {
  readonly #port: MessagePort;
  readonly #served = new Map<string, Served>();
  readonly #statusDue = new Set<string>();
  #state: 'starting' | 'serving' | 'stopping' = 'starting';
  /** Of all engines; set by `start`. */
  #tiers: TierStore | null = null;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (message: ToEngine) => this.#receive(message));
  }

  /** Opens all models, generates one real token with each, reports `ready`, and serves until `stop`. Never rejects: it tells. */
  async start(setup: EngineSetup, open: OpenRunner): Promise<void> {
    try {
      this.#tiers = openTiers(setup.tiers, (message) => this.#post({ type: 'notice', message }));
      const looked = Promise.race([this.#tiers.start(), sleep(TIERS_LOOK_LIMIT_MS, undefined, { ref: false })]);
      const warm: WarmModel[] = [];
      for (const model of setup.models) warm.push(await this.#open(model, setup, open));
      await looked;
      this.#throwIfStopping();
      this.#state = 'serving';
      this.#post({ type: 'ready', models: warm });
    } catch (error) {
      if (error instanceof StartCancelled) await this.#stop();
      else this.#fatal(error);
    }
  }

  async #open(model: EngineModel, setup: EngineSetup, open: OpenRunner): Promise<WarmModel> {
    const { runner, adapter } = await open(model, setup, (stage, done, total) => this.#progress(stage, done, total));
    const served = this.#serve(model.id, runner, setup);
    this.#progress('warm-up', 0, 1);
    await warmUp(served);
    this.#progress('warm-up', 1, 1);
    const { vocabSize, contextLength, capacityBlocks, fingerprint } = runner;
    return { id: model.id, vocabSize, contextLength, capacityBlocks, fingerprint, adapter };
  }

  /** A start is cancelled here, between two pieces of work: a thread that is killed inside the driver takes the process with it. */
  #progress(stage: string, done: number, total: number): void {
    this.#throwIfStopping();
    this.#post({ type: 'progress', stage, done, total });
  }

  #throwIfStopping(): void {
    if (this.#state === 'stopping') throw new StartCancelled('stopped while starting');
  }

  #serve(id: string, runner: ModelRunner, setup: EngineSetup): Served {
    const { maxRunning, cachedTokenCost, ...queue } = setup.bounds;
    const tiers = this.#tiers?.cacheFor(runner.transfer, runner.fingerprint);
    const engine = new Engine({
      runner,
      ...(tiers && { tiers }),
      clock: Date.now,
      costs: { ...DEFAULT_TOKEN_COSTS, cached: cachedTokenCost },
      limits: { ...queue, maxRunning: Math.min(maxRunning, runner.maxStepLogits, runner.maxStepTokens) },
      onOutputs: (outputs, step) => this.#step(id, outputs, step.elapsedMs),
      onFatal: (error) => this.#fatal(error),
    });
    const served: Served = { id, runner, engine, warming: null };
    this.#served.set(id, served);
    engine.run().catch((error: unknown) => this.#fatal(error));
    return served;
  }

  #receive(message: ToEngine): void {
    switch (message.type) {
      case 'submit': {
        const served = this.#of(message.model);
        this.#post({ type: 'taken', ticket: message.ticket, answer: submitAll(served.engine, message.sequences) });
        this.#statusSoon(message.model);
        return;
      }
      case 'cancel':
        for (const id of message.ids) this.#of(message.model).engine.cancel(id);
        this.#statusSoon(message.model);
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

  #step(model: string, outputs: SequenceOutput[], elapsedMs: number): void {
    const served = this.#of(model);
    if (served.warming) {
      served.warming(outputs);
      return;
    }
    this.#post({ type: 'step', model, outputs, elapsedMs, status: served.engine.status() });
  }

  /** Queue lengths change without a step, too; told once per turn of the loop, behind whatever step is due. */
  #statusSoon(model: string): void {
    if (this.#statusDue.has(model)) return;
    this.#statusDue.add(model);
    setImmediate(() => {
      this.#statusDue.delete(model);
      this.#post({ type: 'status', model, status: this.#of(model).engine.status() });
    });
  }

  #fatal(error: unknown): void {
    this.#post({ type: 'fatal', ...describeFatal(error) });
  }

  #of(model: string): Served {
    const served = this.#served.get(model);
    invariant(served, 'messages name a served model', { model });
    return served;
  }

  #post(message: FromEngine): void {
    this.#port.postMessage(message);
  }
}

function openTiers({ ramBytes, diskFolder, ...others }: EngineSetup['tiers'], onNotice: (line: string) => void) {
  const options = { ...others, diskFolder: diskFolder ?? null, ...(ramBytes !== undefined && { ramBytes }) };
  return new TierStore(options, Date.now, onNotice);
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

/** One real token through the whole engine, so that the first client doesn't pay for what is lazy in a driver. */
async function warmUp(served: Served): Promise<void> {
  const { runner, engine } = served;
  const length = Math.min(WARM_UP_TOKENS, runner.contextLength - 2, runner.vocabSize);
  const ended = new Promise<string>((resolve) => {
    served.warming = (outputs) => {
      for (const output of outputs) if (output.end) resolve(output.end);
    };
  });
  const refusal = engine.submit({
    id: 'warm-up/0',
    choice: 0,
    tenant: 'warm-up',
    weight: 1,
    priority: 0,
    cache: null,
    promptIds: Int32Array.from({ length }, (_, i) => i),
    maxTokens: 2,
    sampling: GREEDY,
    eosIds: [],
    logprobs: null,
    promptLogprobs: null,
    deadlineMs: Number.MAX_SAFE_INTEGER,
  });
  invariant(!refusal, 'an idle engine takes the warm-up', { code: refusal?.code ?? null });
  const end = await ended;
  served.warming = null;
  if (end !== 'length') throw new WarmUpFailed(`the warm-up of ${served.id} ended as ${end}; run: npm run doctor`);
}

class StartCancelled extends Error {
  override readonly name = 'StartCancelled';
}

export class WarmUpFailed extends Error {
  override readonly name = 'WarmUpFailed';
  readonly code = 'warm_up_failed';
}
