// What the engine asks of whatever computes a model: given chunks of sequences and their block tables, advance the KV cache and
// answer what is wished for the logits of some rows: a drawn token, a logprob, or the logits themselves. The runner knows no tenants, no
// requests and no queue.
import type { LogitAdjustments } from './logitAdjustments.ts';
import type { PositionLogprob, SamplingParams } from './request.ts';
import type { BlockTransfer } from './tiers/port.ts';

/** Tokens per KV block, everywhere: arena, prefix index and tiers. */
export const BLOCK_TOKENS = 16;

/** One sequence's share of a step: consecutive tokens of which none has KV yet, all ancestors have. */
export interface StepChunk {
  /** Token ids to compute, [count]; `slotToken(slot)` where the id is still being drawn by the step before. */
  tokens: Int32Array;
  /** Position of tokens[0] in the sequence, from 0. */
  start: number;
  /** Arena block per 16 positions; covers at least start + count positions. */
  blockTable: Int32Array;
  /** Offsets into `tokens`, ascending, whose logits are wanted. */
  logitsFor: readonly number[];
  /** What becomes of each of these rows; absent: the logits are brought to the host. */
  wishes?: readonly RowWish[];
}

/** What is wished for a row of logits, all on the device. Read when the step is submitted. */
export type RowWish =
  | {
      /** The next token is drawn. */
      kind: 'draw';
      sampling: SamplingParams;
      /** positionNoise of the output position. */
      noise: readonly [high: number, low: number];
      adjustments: LogitAdjustments | null;
      /** Drafts in front of the row, in order, which the adjustments do not count yet; absent: none. */
      ahead?: Int32Array;
      /** Alternatives wanted; null: no logprobs. */
      logprobs: number | null;
      /** Keeps the drawn id on the device, for the next step's tokens; null: it is not kept. */
      slot: number | null;
      /** The slot holds a token that the adjustments do not count yet. */
      pending: boolean;
    }
  | { /** A given token's logprob. */ kind: 'score'; id: number; alternatives: number };

export interface RowAnswer {
  /** Drawn or given; null: the logits are not finite, or leave no token possible. */
  id: number | null;
  /** null: not asked for. */
  logprob: PositionLogprob | null;
}

export interface StepResult {
  /** Per wanted row, in the order of chunks and of their logitsFor; null where the logits themselves are wanted. */
  answers: readonly (RowAnswer | null)[];
  /** [wanted rows, vocabSize] when a chunk has no wishes, else empty; meaningful for its rows. Valid until the next step but one. */
  logits: Float32Array;
}

/** A token that stands in a slot. */
export function slotToken(slot: number): number {
  return -1 - slot;
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
  /** Steps that may be submitted and not yet answered: 2 lets the device go on while the host takes a result. */
  readonly stepsInFlight: number;
  /** Slots for drawn tokens; as many sequences can run at once. */
  readonly slots: number;
  /** Identifies weights, kernels, numerics class, adapter and KV format: equal fingerprints give equal bits. */
  readonly fingerprint: string;
  /** The way of whole blocks out of the arena and back. */
  readonly transfer: BlockTransfer;
  /**
   * Submits a step before it returns; takes effect behind all submitted before. Rejects with DeviceLost when the GPU is gone; every other
   * error is a bug.
   */
  step(chunks: readonly StepChunk[]): Promise<StepResult>;
  /** Copies the first `tokens` positions of a block, all layers: copy-on-write of a shared, partly filled block. */
  copyBlock(from: number, to: number, tokens: number): void;
  destroy(): void;
}
