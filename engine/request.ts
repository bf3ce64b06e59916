// What the engine is asked to generate and what it answers, in token ids only: text belongs to the HTTP thread.
// All of it is plain data that crosses a thread border.
import type { CacheAccount } from './eviction/policy.ts';
import type { CacheScope, TiersStatus } from './tiers/port.ts';

export interface SamplingParams {
  /** 0: greedy, ties to the lowest id. */
  temperature: number;
  /** 1 and 0 switch a filter off, as OpenAI's and vLLM's defaults do. */
  topP: number;
  topK: number;
  minP: number;
  frequencyPenalty: number;
  presencePenalty: number;
  /** 1: off. Applies to prompt and output, as in vLLM. */
  repetitionPenalty: number;
  /** Added to logits before everything else: [id, bias]. */
  logitBias: readonly (readonly [number, number])[];
  /** Sampling noise is a function of (seed, choice, position) alone. An unsigned 64-bit number in decimal. */
  seed: string;
}

/** The likeliest token each time. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: '0',
};

/** What a request may read of the prefix cache, and how what it leaves there is kept. */
export interface RequestCache {
  scope: CacheScope;
  /** What else than tokens its KV depends on (adapter, modality): part of every block's key. Empty: nothing. */
  extra: string;
  /** Soft retention of its blocks, 0 to 100: higher stays longer. */
  retention: number;
}

export const NEUTRAL_RETENTION = 50;

/** One choice of one request: a sequence of its own. */
export interface SequenceRequest {
  /** Unique while it lives: `${requestId}/${choice}`. */
  id: string;
  choice: number;
  tenant: string;
  /** Share of the tenant when service is divided; > 0. */
  weight: number;
  /** Within the tenant, higher first. */
  priority: number;
  /** Whose share its blocks count against, also where the prefix cache is neither read nor written. */
  account: CacheAccount;
  /** null: the prefix cache is neither read nor written. */
  cache: RequestCache | null;
  promptIds: Int32Array;
  /**
   * Output that was drawn and told in an earlier life of the sequence, here or on an equal runner: it is computed like the prompt, counts
   * as drawn, and is not told again. Fewer than maxTokens, without an end among them. Absent: none.
   */
  outputIds?: Int32Array;
  /** Leading prompt positions whose logprobs were told before; absent: 0. With `outputIds`, all whose logprobs are wanted. */
  scored?: number;
  /** Most output positions, `outputIds` included; 0 scores the prompt only. */
  maxTokens: number;
  sampling: SamplingParams;
  /** Generation ends with reason `stop` after one of these; it is still a released position. */
  eosIds: readonly number[];
  /** Alternatives wanted per output position; null: no logprobs. */
  logprobs: number | null;
  /** The same for every prompt position; null: none. Wanting them computes the whole prompt afresh. */
  promptLogprobs: number | null;
  /** Clock milliseconds after which the sequence is cancelled. */
  deadlineMs: number;
}

/** A position's logprob and its best alternatives, ids only. `id` is null-free; logprob is null for a prompt's first token. */
export interface PositionLogprob {
  id: number;
  logprob: number | null;
  top: readonly (readonly [id: number, logprob: number])[];
}

/** failed: its own logits were not finite. lost: the runner failed under it, and it might succeed elsewhere. */
export type SequenceEnd = 'stop' | 'length' | 'cancelled' | 'deadline' | 'failed' | 'lost';

/** What one step did for one sequence. */
export interface SequenceOutput {
  id: string;
  /** New output ids; position of ids[0]. Empty in steps that only advance the prompt or end the sequence. */
  ids: number[];
  position: number;
  /** One per id when asked for. */
  logprobs?: PositionLogprob[];
  /** Consecutive prompt positions when asked for, going on where the last ended; the first has logprob null. */
  promptLogprobs?: PositionLogprob[];
  /** Prompt tokens answered from this engine's cache: set once, with the first output. */
  cachedTokens?: number;
  /** In a step that computed drafts: how many were drawn, which are the first of `ids`, and how many were not. */
  drafts?: { accepted: number; rejected: number };
  end?: SequenceEnd;
}

/** Why a request was not taken. `retryAfterMs`: a computed guess at when there is room. */
export interface Refusal {
  code: 'overloaded' | 'context_length_exceeded';
  message: string;
  retryAfterMs?: number;
}

export interface EngineStatus {
  running: number;
  waiting: number;
  waitingTokens: number;
  blocksTotal: number;
  blocksFree: number;
  /** Held by the prefix index alone: free on demand. */
  blocksCached: number;
  steps: number;
  promptTokens: number;
  cachedTokens: number;
  outputTokens: number;
  /** Drafts computed, and those of them that were drawn. */
  draftedTokens: number;
  acceptedTokens: number;
  preemptions: number;
  evictions: number;
  /** Blocks outside the GPU; RAM and disk are those of all engines of the process. null: there are none. */
  tiers: TiersStatus | null;
}
