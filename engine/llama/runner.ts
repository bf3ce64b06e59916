// Runs a model of the architecture `llama` on the GPU: one command buffer, one metadata write and one read-back per step.
//
//   embed → layers × [ norm → qkv → rope + KV write → attention → quantise → o → norm → gate|up → SiLU·quantise → down ] → norm → head
//
// Every result depends on its own token, position and KV only (batch- and cache-invariant): each kernel has one fixed order of
// summation, whatever the number of rows. The numerics class is the element type of activations and that of the KV cache.
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryRows } from '../../wgsl/attention/shape.ts';
import type { KvFormat } from '../../wgsl/kv/format.ts';
import { type Activations, TOKEN_GROUP } from '../../wgsl/matmul/variant.ts';
import { DeviceLost, type OpenedDevice } from '../gpu/device.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile } from '../model/types.ts';
import { BLOCK_TOKENS, type ModelRunner, type StepChunk, type StepResult } from '../modelRunner.ts';
import { ArenaTransfer } from './blockTransfer.ts';
import { encode } from './dispatch.ts';
import { buildGraph, type Graph } from './graph.ts';
import { ropeFrequencies } from './ropeFrequencies.ts';
import { StepMetadata } from './stepMetadata.ts';
import { StepWait } from './stepWait.ts';
import { uploadWeights } from './weights.ts';

export interface RunnerOptions {
  gpu: OpenedDevice;
  file: ModelFile;
  /** Numerics class: int8 activations in blocks of 32 (fast), or f32. */
  activations: Activations;
  /** How keys and values are stored; default f16. */
  kvFormat?: KvFormat;
  /** Blocks of 16 positions in the KV arena. */
  kvBlocks: number;
  /** Most tokens per step. */
  maxStepTokens: number;
  /** Most logits rows per step; default 16. */
  maxStepLogits?: number;
  /** Weights are cut into buffers of at most this size; default: the adapter's limit. */
  maxBindingBytes?: number;
  /** Default: the model's own. */
  contextLength?: number;
  /** Stages `weights` (bytes) and `shaders` (kernels). */
  onProgress?: (stage: 'weights' | 'shaders', done: number, total: number) => void;
}

/** Throws ModelFileError, ShaderError or DeviceLost. Uses the device alone until destroyed. */
export async function createLlamaRunner(options: RunnerOptions): Promise<ModelRunner> {
  const { gpu, file, kvFormat = 'f16' } = options;
  const { device } = gpu;
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  const limit = Math.min(maxStorageBufferBindingSize, maxBufferSize);
  const matrices = { uniformWindows: gpu.software, maxBindingBytes: Math.min(options.maxBindingBytes ?? limit, limit) };
  const weights = await uploadWeights(device, file, matrices, (done, total) =>
    options.onProgress?.('weights', done, total),
  );
  const contextLength = Math.min(options.contextLength ?? file.config.contextLength, file.config.contextLength);
  const maxLogits = Math.ceil((options.maxStepLogits ?? 16) / TOKEN_GROUP) * TOKEN_GROUP;
  const metadata = new StepMetadata({
    maxTokens: options.maxStepTokens,
    maxLogits,
    maxTableEntries: options.maxStepTokens * Math.ceil(contextLength / BLOCK_TOKENS),
    frequencies: await ropeFrequencies(file),
    vocabSize: file.config.vocabSize,
    capacityBlocks: options.kvBlocks,
    queryRows: queryRows(file.config, gpu),
  });
  const graph = await buildGraph({
    gpu,
    config: file.config,
    weights,
    activations: options.activations,
    kvFormat,
    kvBlocks: options.kvBlocks,
    maxTokens: options.maxStepTokens,
    maxLogits,
    metadata,
    onShader: (done, total) => options.onProgress?.('shaders', done, total),
  });
  const fingerprint = createHash('sha256')
    .update(
      JSON.stringify([
        file.sha256,
        graph.sourceDigest,
        `activations ${options.activations}, kv ${kvFormat}`,
        gpu.adapterIdentity,
        gpu.software ? (cpus()[0]?.model ?? '') : '',
      ]),
    )
    .digest('hex')
    .slice(0, 32);
  return new LlamaRunner(gpu, file.config.vocabSize, contextLength, options, maxLogits, metadata, graph, fingerprint);
}

class LlamaRunner implements ModelRunner {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly capacityBlocks: number;
  readonly maxStepTokens: number;
  readonly maxStepLogits: number;
  readonly fingerprint: string;
  readonly transfer: ArenaTransfer;
  readonly #gpu: OpenedDevice;
  readonly #metadata: StepMetadata;
  readonly #graph: Graph;
  readonly #logits: Float32Array;
  readonly #wait = new StepWait();
  #failure: Error | null = null;
  #busy = false;

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
    this.maxStepTokens = options.maxStepTokens;
    this.maxStepLogits = maxLogits;
    this.#metadata = metadata;
    this.#graph = graph;
    this.fingerprint = fingerprint;
    this.#logits = new Float32Array(maxLogits * vocabSize);
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
    invariant(!this.#busy, 'a step was begun before the last one ended');
    if (this.#failure) throw this.#failure;
    this.#busy = true;
    try {
      const { device } = this.#gpu;
      const metadata = this.#metadata;
      const graph = this.#graph;
      metadata.fill(chunks);
      device.queue.writeBuffer(graph.metadataBuffer, 0, metadata.words, 0, metadata.usedBytes / 4);
      const encoder = device.createCommandEncoder({ label: 'step' });
      this.transfer.encode(encoder);
      const pass = encoder.beginComputePass({ label: 'step' });
      encode(pass, graph.dispatches, metadata.rows);
      pass.end();
      const { tokens, wanted } = metadata.rows;
      const bytes = wanted * graph.logitsStride * 4;
      if (bytes) encoder.copyBufferToBuffer(graph.logits, 0, graph.readback, 0, bytes);
      const submittedMs = performance.now();
      device.queue.submit([encoder.finish()]);
      this.transfer.stepSubmitted();
      const sleepMs = this.#gpu.software ? this.#wait.sleepMs(tokens, wanted) : 0;
      if (sleepMs > 0) await sleep(sleepMs);
      await this.#finished(bytes);
      this.#wait.note(tokens, wanted, performance.now() - submittedMs);
      return { logits: this.#logits.subarray(0, wanted * this.vocabSize) };
    } finally {
      this.#busy = false;
    }
  }

  /** Waits for the submitted work and brings the logits to the host. */
  async #finished(bytes: number): Promise<void> {
    const { readback, logitsStride } = this.#graph;
    try {
      if (bytes) await readback.mapAsync(GPUMapMode.READ, 0, bytes);
      else await this.#gpu.device.queue.onSubmittedWorkDone();
    } catch (error) {
      throw this.#failure ?? new DeviceLost(`the step's result could not be read: ${String(error)}`);
    } finally {
      this.transfer.stepFinished();
    }
    if (bytes) {
      const mapped = new Float32Array(readback.getMappedRange(0, bytes));
      for (let row = 0; row < this.#metadata.rows.wanted; row++)
        this.#logits.set(
          mapped.subarray(row * logitsStride, row * logitsStride + this.vocabSize),
          row * this.vocabSize,
        );
      readback.unmap();
    }
    if (this.#failure) throw this.#failure;
  }

  copyBlock(from: number, to: number, tokens: number): void {
    this.transfer.copyBlock(from, to, tokens);
  }

  destroy(): void {
    this.#gpu.destroy();
  }
}
