// The engine thread's side: opens and warms every model, then turns messages into engine calls and steps into messages. It owns
// the GPU alone, so that nothing the HTTP thread does can delay a step, and no step can delay a health check.
import { performance } from 'node:perf_hooks';
import type { MessagePort } from 'node:worker_threads';
import { Engine } from '../engine/engine.ts';
import { invariant } from '../engine/invariant.ts';
import type { ModelRunner } from '../engine/modelRunner.ts';
import type { Refusal, SequenceOutput, SequenceRequest } from '../engine/request.ts';
import type { EngineModel, EngineSetup, FromEngine, ToEngine, WarmModel } from './engineMessages.ts';

export type OpenRunner = (
  model: EngineModel,
  setup: EngineSetup,
  onProgress: (stage: string, done: number, total: number) => void,
) => Promise<{ runner: ModelRunner; adapter: string }>;

/** Step durations kept between two messages: prompt-only steps may send none for a while. */
const MAX_STEP_TIMES = 256;
/** Prompt of the warm-up: long enough for every kernel variant, short enough for seconds on a software adapter. */
const WARM_UP_TOKENS = 24;

interface Served {
  id: string;
  runner: ModelRunner;
  engine: Engine;
  stepMs: number[];
  /** Set while the warm-up's outputs are awaited; nothing of it leaves the thread. */
  warming: ((outputs: SequenceOutput[]) => void) | null;
}

export class EngineThread {
  readonly #port: MessagePort;
  readonly #served = new Map<string, Served>();
  readonly #statusDue = new Set<string>();

  constructor(port: MessagePort) {
    this.#port = port;
  }

  /** Opens all models, generates one real token with each, reports `ready`, and serves until `stop`. */
  async start(setup: EngineSetup, open: OpenRunner): Promise<void> {
    const warm: WarmModel[] = [];
    for (const model of setup.models) {
      const { runner, adapter } = await open(model, setup, (stage, done, total) =>
        this.#post({ type: 'progress', stage, done, total }),
      );
      const served = this.#serve(
        model.id,
        timed(runner, (ms) => this.#noteStep(model.id, ms)),
        setup,
      );
      this.#post({ type: 'progress', stage: 'warm-up', done: 0, total: 1 });
      await warmUp(served);
      this.#post({ type: 'progress', stage: 'warm-up', done: 1, total: 1 });
      const { vocabSize, contextLength, capacityBlocks, fingerprint } = runner;
      warm.push({ id: model.id, vocabSize, contextLength, capacityBlocks, fingerprint, adapter });
    }
    this.#port.on('message', (message: ToEngine) => this.#receive(message));
    this.#post({ type: 'ready', models: warm });
  }

  #serve(id: string, runner: ModelRunner, setup: EngineSetup): Served {
    const { bounds } = setup;
    const engine = new Engine(runner, {
      maxRunning: Math.min(bounds.maxRunning, runner.maxStepLogits, runner.maxStepTokens),
      queue: {
        maxRequests: bounds.maxWaiting,
        maxTokens: bounds.maxWaitingTokens,
        maxRequestsPerTenant: bounds.maxWaitingPerTenant,
        maxTokensPerTenant: bounds.maxWaitingTokensPerTenant,
      },
      onOutputs: (outputs) => this.#step(id, outputs),
      onFatal: (error) => this.#fatal(error),
    });
    const served: Served = { id, runner, engine, stepMs: [], warming: null };
    this.#served.set(id, served);
    engine.run().catch((error: unknown) => this.#fatal(error));
    return served;
  }

  #receive(message: ToEngine): void {
    switch (message.type) {
      case 'submit': {
        const served = this.#of(message.model);
        this.#post({ type: 'taken', ticket: message.ticket, refusal: submitAll(served.engine, message.sequences) });
        return this.#statusSoon(message.model);
      }
      case 'cancel':
        for (const id of message.ids) this.#of(message.model).engine.cancel(id);
        return this.#statusSoon(message.model);
      case 'stop':
        void this.#stop();
    }
  }

  async #stop(): Promise<void> {
    for (const { engine, runner } of this.#served.values()) {
      await engine.stop();
      runner.destroy();
    }
    this.#post({ type: 'stopped' });
    this.#port.close();
  }

  #step(model: string, outputs: SequenceOutput[]): void {
    const served = this.#of(model);
    if (served.warming) return served.warming(outputs);
    const stepMs = served.stepMs.splice(0);
    this.#post({ type: 'step', model, outputs, stepMs, status: served.engine.status() });
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

  #noteStep(model: string, ms: number): void {
    const times = this.#served.get(model)?.stepMs;
    if (times && times.length < MAX_STEP_TIMES) times.push(ms);
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

/** Code and words of an error that ends the engine thread, as they cross to the HTTP thread. */
export function describeFatal(error: unknown): { code: string; message: string } {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'engine_failed';
  return { code, message: error instanceof Error ? error.message : String(error) };
}

/** All or none: what was taken before a refusal is cancelled in the same turn, before any step could run. */
function submitAll(engine: Engine, sequences: readonly SequenceRequest[]): Refusal | null {
  for (const [index, sequence] of sequences.entries()) {
    const refusal = engine.submit(sequence);
    if (!refusal) continue;
    for (const taken of sequences.slice(0, index)) engine.cancel(taken.id);
    return refusal;
  }
  return null;
}

/** The same runner with every step's duration reported. */
function timed(runner: ModelRunner, onStep: (ms: number) => void): ModelRunner {
  return {
    vocabSize: runner.vocabSize,
    contextLength: runner.contextLength,
    capacityBlocks: runner.capacityBlocks,
    maxStepTokens: runner.maxStepTokens,
    maxStepLogits: runner.maxStepLogits,
    fingerprint: runner.fingerprint,
    step: async (chunks) => {
      const started = performance.now();
      const result = await runner.step(chunks);
      onStep(performance.now() - started);
      return result;
    },
    copyBlock: (from, to, tokens) => runner.copyBlock(from, to, tokens),
    destroy: () => runner.destroy(),
  };
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
    cacheScope: null,
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
  served.stepMs.length = 0;
  if (end !== 'length') throw new WarmUpFailed(`the warm-up of ${served.id} ended as ${end}; run: npm run doctor`);
}

export class WarmUpFailed extends Error {
  override readonly name = 'WarmUpFailed';
  readonly code = 'warm_up_failed';
}

const GREEDY = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: '0',
} as const;
