// What the engine asks of whatever computes a model: given chunks of sequences and their block tables, advance the KV cache and
// return the logits of the rows that somebody wants. The runner knows no tenants, no requests and no queue.
import type { BlockTransfer } from './tiers/port.ts';

/** Tokens per KV block, everywhere: arena, prefix index and tiers. */
export const BLOCK_TOKENS = 16;

/** One sequence's share of a step: consecutive tokens of which none has KV yet, all ancestors have. */
export interface StepChunk {
  /** Token ids to compute, [count]. */
  tokens: Int32Array;
  /** Position of tokens[0] in the sequence, from 0. */
  start: number;
  /** Arena block per 16 positions; covers at least start + count positions. */
  blockTable: Int32Array;
  /** Offsets into `tokens`, ascending, whose logits are wanted. */
  logitsFor: readonly number[];
}

export interface StepResult {
  /** [wanted rows, vocabSize], rows in the order of chunks and of their logitsFor. Valid until the next step. */
  logits: Float32Array;
}

export interface ModelRunner {
  readonly vocabSize: number;
  /** Most positions of one sequence. */
  readonly contextLength: number;
  /** Blocks in the KV arena. */
  readonly capacityBlocks: number;
  /** Most tokens over all chunks of one step, and most wanted logits rows. */
  readonly maxStepTokens: number;
  readonly maxStepLogits: number;
  /** Identifies weights, kernels, numerics class, adapter and KV format: equal fingerprints give equal bits. */
  readonly fingerprint: string;
  /** The way of whole blocks out of the arena and back. */
  readonly transfer: BlockTransfer;
  /** Throws DeviceLost when the GPU is gone; every other throw is a bug. */
  step(chunks: readonly StepChunk[]): Promise<StepResult>;
  /** Copies the first `tokens` positions of a block, all layers: copy-on-write of a shared, partly filled block. */
  copyBlock(from: number, to: number, tokens: number): void;
  destroy(): void;
}
