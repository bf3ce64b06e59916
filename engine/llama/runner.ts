// Runs a model of the architecture `llama` on the GPU: one pass, one metadata write and one read-back per step.
//
//   embed → layers × [ norm → qkv → rope + KV write → attention → quantise → o → norm → gate|up → SiLU·quantise → down ] → norm → head
//         → sampling
//
// Every result depends on its own token, position and KV only (batch- and cache-invariant): each kernel has one fixed order of
// summation, whatever the number of rows. The numerics class is the element type of activations and that of the KV cache.
import { createHash } from 'node:crypto';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import type { KvFormat } from '../../wgsl/kv/format.ts';
import { TOKEN_GROUP } from '../../wgsl/matmul/layout.ts';
import { type Activations, wholeGroups } from '../../wgsl/matmul/variant.ts';
import { RESULT_WORDS } from '../../wgsl/sample/row.ts';
import { DeviceLost, identityOf, type OpenedDevice } from '../gpu/device.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile } from '../model/types.ts';
import { BLOCK_TOKENS, type ModelRunner, type RowWish, type StepChunk, type StepResult } from '../modelRunner.ts';
import { readAnswer, wishesOf } from '../rowWords.ts';
import { ArenaTransfer } from './blockTransfer.ts';
import { buildGraph, type Graph, sampleShapeOf } from './graph.ts';
import type { HeldWeights } from './heldWeights.ts';
import { chooseKernels, type KernelChoices } from './kernelChoices.ts';
import { Pipelines } from './pipelines.ts';
import { Readback } from './readback.ts';
import { ropeFrequencies } from './ropeFrequencies.ts';
import { StepCommands } from './stepCommands.ts';
import { StepMetadata } from './stepMetadata.ts';
import { StepWait } from './stepWait.ts';
import { type TuningOptions, tunerOf } from './tunerOf.ts';
import { uploadWeights, type Weights } from './weights.ts';

export interface RunnerOptions {
  gpu: OpenedDevice;
  file: ModelFile;
  /** Numerics class: int8 activations in blocks of 32 (fast), or f32. */
  activations: Activations;
  /** How keys and values are stored; default f16. */
  kvFormat?: KvFormat;
  /** Whether a decode over a long context is spread over workgroups: the same bits. Default: on hardware adapters, or as measured. */
  splitsApart?: boolean;
  /** Blocks of 16 positions in the KV arena. */
  kvBlocks: number;
  /** Most tokens per step; default: what keeps the adapter busy. */
  maxStepTokens?: number;
  /** Most logits rows per step; default 16. */
  maxStepLogits?: number;
  /** Weights are cut into buffers of at most this size; default: the adapter's limit. */
  maxBindingBytes?: number;
  /** Default: the model's own. */
  contextLength?: number;
  /** Steps submitted and not yet answered; default 2 on hardware, 1 on a software adapter, which computes on the host's cores. */
  stepsInFlight?: number;
  /** Kernels are measured, and the choice kept; without it they are chosen by rule. The same bits, and the same fingerprint. */
  tuning?: TuningOptions;
  /** Stages `weights` (bytes), `tuning` (operations) and `shaders` (kernels). */
  onProgress?: (stage: 'weights' | 'tuning' | 'shaders', done: number, total: number) => void;
  /** What somebody should hear of, though it stops nothing. */
  onNotice?: (message: string) => void;
}

/** A GPU wants more at once than a processor: on an H100 a step of 256 rows takes 2.3 times as long as one of 64. */
const STEP_TOKENS = { software: 64, hardware: 256 };

/** Tokens with a bias that one request can name; what a row's adjustments need room for beside its context. */
const MAX_BIASED = 1024;

/** What of a model needs no device memory, and stays valid as long as the device: compiled pipelines, and which of them were chosen. */
export interface Compiled {
  pipelines: Pipelines;
  kernels: KernelChoices;
}

/** What is left of a model that slept. */
export interface Remains {
  compiled: Compiled;
  weights: HeldWeights;
}

export interface BuiltRunner {
  runner: ModelRunner;
  compiled: Compiled;
  weights: Weights;
}

/** Throws ModelFileError, ShaderError or DeviceLost. Uses the device alone until destroyed. */
export async function createLlamaRunner(options: RunnerOptions): Promise<ModelRunner> {
  return (await buildLlamaRunner(options)).runner;
}

/** The same, from what is left of a sleep on the same device where there is something. */
export async function buildLlamaRunner(options: RunnerOptions, remains: Remains | null = null): Promise<BuiltRunner> {
  const { gpu, file, kvFormat = 'f16' } = options;
  const { device } = gpu;
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  const limit = Math.min(maxStorageBufferBindingSize, maxBufferSize);
  const matrices = { uniformWindows: gpu.software, maxBindingBytes: Math.min(options.maxBindingBytes ?? limit, limit) };
  const onWeights = (done: number, total: number) => options.onProgress?.('weights', done, total);
  const weights = await uploadWeights(device, file, matrices, onWeights, remains?.weights);
  const contextLength = Math.min(options.contextLength ?? file.config.contextLength, file.config.contextLength);
  const maxTokens = options.maxStepTokens ?? STEP_TOKENS[gpu.software ? 'software' : 'hardware'];
  const maxLogits = wholeGroups(options.maxStepLogits ?? TOKEN_GROUP);
  const limits = {
    maxTokens,
    maxLogits,
    maxTableEntries: maxTokens * Math.ceil(contextLength / BLOCK_TOKENS),
    frequencies: await ropeFrequencies(file),
    vocabSize: file.config.vocabSize,
    maxAdjustments: maxLogits * Math.min(file.config.vocabSize, contextLength + MAX_BIASED),
    capacityBlocks: options.kvBlocks,
    slots: maxLogits,
  };
  const { activations, splitsApart = null } = options;
  const compile = async (pipelines: Pipelines): Promise<Compiled> => {
    const kernels = await chooseKernels({
      ...{ pipelines, gpu, config: file.config, weights, activations, kvFormat, splitsApart },
      sampling: sampleShapeOf(limits),
      tuner: options.tuning ? await tunerOf(gpu, options.tuning, options) : null,
    });
    return { pipelines, kernels };
  };
  const compiled = remains?.compiled ?? (await compile(new Pipelines(device)));
  const { pipelines, kernels } = compiled;
  const metadata = new StepMetadata({ ...limits, queryRows: kernels.tiles.rows });
  const graph = await buildGraph({
    ...{ pipelines, config: file.config, weights, activations, kvFormat, kernels, maxLogits, metadata },
    kvBlocks: options.kvBlocks,
    maxTokens,
    onShader: (done, total) => options.onProgress?.('shaders', done, total),
  });
  const fingerprint = createHash('sha256')
    .update(
      JSON.stringify([
        file.sha256,
        graph.sourceDigest,
        `activations ${options.activations}, kv ${kvFormat}`,
        ...identityOf(gpu),
      ]),
    )
    .digest('hex')
    .slice(0, 32);
  const { vocabSize } = file.config;
  const runner = new LlamaRunner(gpu, vocabSize, contextLength, options, maxLogits, metadata, graph, fingerprint);
  return { runner, compiled, weights };
}

class LlamaRunner implements ModelRunner {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly capacityBlocks: number;
  readonly maxStepTokens: number;
  readonly maxStepLogits: number;
  readonly stepsInFlight: number;
  readonly slots: number;
  readonly fingerprint: string;
  readonly transfer: ArenaTransfer;
  readonly #gpu: OpenedDevice;
  readonly #metadata: StepMetadata;
  readonly #graph: Graph;
  readonly #commands: StepCommands;
  /** Used in turn; one per step in flight, and one whose result is still being looked at. */
  readonly #readbacks: readonly Readback[];
  readonly #wait = new StepWait();
  #failure: Error | null = null;
  #steps = 0;
  #inFlight = 0;

  constructor(
    gpu: OpenedDevice,
    vocabSize: number,
    contextLength: number,
    options: RunnerOptions,
    maxLogits: number,
    metadata: StepMetadata,
    graph: Graph,
    fingerprint: string,
  ) {
    this.#gpu = gpu;
    this.vocabSize = vocabSize;
    this.contextLength = contextLength;
    this.capacityBlocks = options.kvBlocks;
    this.maxStepTokens = metadata.limits.maxTokens;
    this.maxStepLogits = maxLogits;
    this.#metadata = metadata;
    this.#graph = graph;
    this.#commands = new StepCommands(gpu.device, graph);
    this.fingerprint = fingerprint;
    this.stepsInFlight = options.stepsInFlight ?? (gpu.software ? 1 : 2);
    this.slots = metadata.limits.slots;
    const source = {
      results: graph.sampling.results,
      logits: graph.logits,
      logitsStride: graph.logitsStride,
      vocabSize,
      maxRows: maxLogits,
    };
    this.#readbacks = Array.from({ length: this.stepsInFlight + 1 }, () => new Readback(gpu.device, source));
    const { arenas, blockBytes: layerBytes, scratch } = graph;
    this.transfer = new ArenaTransfer(gpu.device, { arenas, layerBytes, scratch, capacityBlocks: options.kvBlocks });
    gpu.lost.then((words) => {
      this.#failure ??= new DeviceLost(`the GPU device was lost: ${words}`);
      this.transfer.deviceLost();
    });
    gpu.device.onuncapturederror = (event) => {
      this.#failure ??= new Error(`GPU: ${event.error.message}`);
    };
  }

  async step(chunks: readonly StepChunk[]): Promise<StepResult> {
    invariant(this.#inFlight < this.stepsInFlight, 'no more steps are in flight than may be', {
      inFlight: this.#inFlight,
    });
    if (this.#failure) throw this.#failure;
    const wishes = wishesOf(chunks);
    const { readback, repeats } = this.#submit(chunks, wishes);
    const shape = this.#metadata.shape();
    const { tokens, wanted } = shape.rows;
    const submittedMs = performance.now();
    this.#inFlight += 1;
    try {
      if (repeats) {
        await immediate();
        if (!this.#failure) this.#commands.prepare(shape);
      }
      const sleepMs = this.#gpu.software ? this.#wait.sleepMs(tokens, wanted) - (performance.now() - submittedMs) : 0;
      if (sleepMs > 0) await sleep(sleepMs);
      const result = await this.#finished(readback);
      this.#wait.note(tokens, wanted, performance.now() - submittedMs);
      const answers = wishes.map(
        (wish, row) =>
          wish &&
          readAnswer(result.results.subarray(row * RESULT_WORDS, (row + 1) * RESULT_WORDS), wish, this.vocabSize),
      );
      return { answers, logits: result.logits };
    } finally {
      this.#inFlight -= 1;
    }
  }

  /** Everything of a step that is done before it is waited for. `repeats`: the next one may be like it. */
  #submit(chunks: readonly StepChunk[], wishes: readonly (RowWish | null)[]): { readback: Readback; repeats: boolean } {
    const { device } = this.#gpu;
    const metadata = this.#metadata;
    metadata.fill(chunks, wishes);
    device.queue.writeBuffer(this.#graph.metadataBuffer, 0, metadata.words, 0, metadata.usedBytes / 4);
    const { commands, repeats } = this.#commands.take(metadata.shape());
    const readback = this.#readbacks[this.#steps++ % this.#readbacks.length]!;
    const reading = device.createCommandEncoder({ label: 'read-back' });
    readback.encode(reading, metadata.rows.wanted, metadata.raw);
    const moves = this.transfer.encodePending();
    device.queue.submit([...(moves ? [moves] : []), commands, reading.finish()]);
    this.transfer.stepSubmitted();
    return { readback, repeats };
  }

  /** Waits for the submitted work and brings its results to the host. */
  async #finished(readback: Readback): Promise<{ results: Uint32Array; logits: Float32Array }> {
    try {
      const result = await readback.read();
      if (this.#failure) throw this.#failure;
      return result;
    } catch (error) {
      throw this.#failure ?? new DeviceLost(`the step's result could not be read: ${String(error)}`);
    } finally {
      this.transfer.stepFinished();
    }
  }

  copyBlock(from: number, to: number, tokens: number): void {
    this.transfer.copyBlock(from, to, tokens);
  }

  destroy(): void {
    this.#gpu.destroy();
  }
}
