// Decides what a checked request asks for: its prompts, and choices with bounds that neither the context nor the gateway's hold can be
// passed with, from their beginning or where they go on. Pure: the seed comes in.
//
//   choice c = prompt × n + i; all choices together: prompt tokens + Σ maxTokens ≤ hold
import type { CacheAccount } from '../engine/eviction/policy.ts';
import { NEUTRAL_RETENTION, type RequestCache, type SamplingParams } from '../engine/request.ts';
import { contextExceeded, invalidRequest } from './errors.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import { resumedPrompts, takeUp } from './resume.ts';
import type { PoolModel } from './servedModel.ts';
import type { FinishReason } from './wire/events.ts';
import {
  type ChatRequest,
  type CompletionRequest,
  LIMITS,
  type PoolChatRequest,
  type PoolCompletionRequest,
  promptsOf,
} from './wire/inference.ts';

export type Inference =
  | { kind: 'chat'; request: PoolChatRequest }
  | { kind: 'completion'; request: PoolCompletionRequest };

/** What the signed headers allow this request. */
export interface Grant {
  requestId: string;
  tenant: string;
  priority: number;
  deadlineMs: number;
  holdTokens: number;
  /** The tenant's share of service. */
  weight: number;
  /** Whose blocks they are, whether cached or not. */
  account: CacheAccount;
  /** null: the request may not use the prefix cache. */
  cache: Pick<RequestCache, 'scope'> | null;
}

export interface PlannedChoice {
  choice: number;
  prompt: number;
  maxTokens: number;
  /** Alternatives per prompt token that the client sees; null: none. Only the first choice of a prompt has them. */
  promptLogprobs: number | null;
  /** Output ids released before, and how the choice ended if it did. */
  released: readonly number[];
  finish: FinishReason | null;
}

export interface Plan {
  prompts: number[][];
  promptTokens: number;
  choices: PlannedChoice[];
  /** Whether somebody began it before. */
  resumed: boolean;
  /** Per prompt: leading tokens that were told with their texts before. */
  told: readonly number[];
  /** Where the bill stands beside `released`. */
  billed: { cachedTokens: number; drafts: { accepted: number; rejected: number } };
  /** Alternatives per output token; null: no logprobs. */
  logprobs: number | null;
  /** The prompts' tokens are told with their text even without logprobs: the gateway has no tokeniser. */
  echo: boolean;
  stops: string[];
  sampling: SamplingParams;
  cache: RequestCache | null;
}

/**
 * Throws PoolError: 400, and 409 for a request that a model of another fingerprint began. `drawSeed` is asked only when the request has no
 * seed.
 */
export function planRequest(model: PoolModel, inference: Inference, grant: Grant, drawSeed: () => bigint): Plan {
  const { request } = inference;
  const { resume } = request;
  const wants = inference.kind === 'chat' ? chatWants(inference.request) : completionWants(inference.request);
  const prompts = promptIds(model, inference);
  const n = request.n ?? 1;
  if (prompts.length * n > LIMITS.prompts)
    throw invalidRequest(`${prompts.length} prompts × n = ${n} are more than ${LIMITS.prompts} choices.`, 'n');
  const promptTokens = prompts.reduce((sum, ids) => sum + ids.length, 0);
  const shares = sharesOfHold(grant.holdTokens - promptTokens, prompts.length * n);
  const param = resume ? 'resume.prompts' : wants.param;
  const choices = prompts.flatMap((ids, prompt) =>
    Array.from({ length: n }, (_, i): PlannedChoice => {
      const choice = prompt * n + i;
      const maxTokens = outputBound(model, ids.length, wants.maxTokens, shares(choice), param);
      const promptLogprobs = i === 0 ? wants.promptLogprobs : null;
      return { choice, prompt, maxTokens, promptLogprobs, released: [], finish: null };
    }),
  );
  const plan: Plan = {
    prompts,
    promptTokens,
    choices,
    resumed: request.anew === true,
    told: prompts.map(() => 0),
    billed: { cachedTokens: 0, drafts: { accepted: 0, rejected: 0 } },
    logprobs: wants.logprobs,
    echo: wants.echo,
    stops: typeof request.stop === 'string' ? [request.stop] : (request.stop ?? []),
    sampling: samplingOf(model, request, drawSeed),
    cache: cacheOf(request, grant),
  };
  return resume ? takeUp(model, resume, plan) : plan;
}

function promptIds(model: PoolModel, { kind, request }: Inference): number[][] {
  const { resume } = request;
  if (resume && typeof request.seed !== 'number')
    throw invalidRequest("A request goes on only with the 'seed' that it began with.", 'seed');
  if (kind === 'chat') return resume ? resumedPrompts(model, resume, 1) : [chatPrompt(model, request.messages)];
  return resume
    ? resumedPrompts(model, resume, promptsOf(request.prompt).length)
    : completionPrompts(model, request.prompt);
}

interface Wants {
  param: 'messages' | 'prompt';
  maxTokens: number | null;
  logprobs: number | null;
  promptLogprobs: number | null;
  echo: boolean;
}

function chatWants(request: ChatRequest): Wants {
  const top = request.top_logprobs ?? null;
  if (top !== null && !request.logprobs)
    throw invalidRequest("'top_logprobs' needs 'logprobs' to be true.", 'top_logprobs');
  const maxTokens = request.max_completion_tokens ?? request.max_tokens ?? null;
  return {
    param: 'messages',
    maxTokens,
    logprobs: request.logprobs ? (top ?? 0) : null,
    promptLogprobs: null,
    echo: false,
  };
}

function completionWants(request: CompletionRequest): Wants {
  const echo = request.echo ?? false;
  const logprobs = request.logprobs ?? null;
  const maxTokens = request.max_tokens ?? null;
  if (maxTokens === 0 && !echo)
    throw invalidRequest("'max_tokens' may be 0 only with 'echo', to score the prompt.", 'max_tokens');
  return { param: 'prompt', maxTokens, logprobs, promptLogprobs: echo ? logprobs : null, echo };
}

/** Each choice's part of the output that the hold allows. Fixed beforehand, so that no choice depends on how fast another is. */
function sharesOfHold(allowance: number, choices: number): (choice: number) => number {
  const share = Math.floor(allowance / choices);
  const rest = allowance - share * choices;
  return (choice) => share + (choice < rest ? 1 : 0);
}

function outputBound(
  model: PoolModel,
  promptTokens: number,
  asked: number | null,
  share: number,
  param: string,
): number {
  const left = model.contextLength - promptTokens;
  if (left < (asked ?? 1))
    throw contextExceeded({ context: model.contextLength, promptTokens, maxTokens: asked, param });
  if (share < Math.min(1, asked ?? 1))
    throw invalidRequest(
      'The hold is smaller than the prompt and one token of each choice; reserve more.',
      null,
      'hold_too_small',
    );
  return Math.min(asked ?? left, share);
}

function samplingOf(
  model: PoolModel,
  request: ChatRequest | CompletionRequest,
  drawSeed: () => bigint,
): SamplingParams {
  const logitBias = Object.entries(request.logit_bias ?? {}).map(([id, bias]) => [Number(id), bias] as const);
  const unknown = logitBias.find(([id]) => id >= model.vocabSize);
  if (unknown)
    throw invalidRequest(`Token id ${unknown[0]} is not in the vocabulary of ${model.vocabSize} tokens.`, 'logit_bias');
  return {
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    logitBias,
    seed: BigInt.asUintN(64, typeof request.seed === 'number' ? BigInt(request.seed) : drawSeed()).toString(),
  };
}

function cacheOf(request: ChatRequest | CompletionRequest, { cache }: Grant): RequestCache | null {
  if (request.cache_salt != null)
    throw invalidRequest("'cache_salt' is for the gateway, which signs the namespace that it selects.", 'cache_salt');
  if (cache === null || request.cache === false) return null;
  // Adapters and other modalities, which would make KV depend on more than tokens, are not served: nothing extra.
  return { ...cache, extra: '', retention: request.cache_retention ?? NEUTRAL_RETENTION };
}
