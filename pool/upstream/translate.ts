// A checked request as its engine is asked: the same in the engine's words, with what the gateway signed in the place of what a client could
// say. The output bound is always explicit and within the hold. The salt of the prefix cache comes from the signed namespace alone; a
// request that may not use the cache gets one that nobody has. Pure: that salt comes in.
import { NEUTRAL_RETENTION } from '../../engine/request.ts';
import { invalidRequest } from '../errors.ts';
import type { Grant, Inference } from '../plan.ts';
import { type ChatMessage, contentText, LIMITS, promptsOf } from '../wire/inference.ts';
import { unsupported } from './errors.ts';
import { type CacheIsolation, type Make, NEUTRAL_SAMPLING, type SamplingName } from './make.ts';

export interface UpstreamModel {
  /** Name under which it is served here. */
  id: string;
  /** The engine's name of it. */
  name: string;
  /** Positions of a sequence. */
  contextLength: number;
}

export interface UpstreamSettings {
  make: Make;
  /** Tenants may share the prefix cache of a make that can't keep them apart. */
  sharedCache: boolean;
  /** The engine was started so that it looks at priorities. */
  priority: boolean;
}

/** What is sent, and what the answer must keep to. */
export interface Translated {
  path: '/v1/chat/completions' | '/v1/completions';
  body: object;
  prompts: number;
  choices: number;
  /** Output tokens per choice. */
  maxTokens: number;
  /** Alternatives per output token; null: no logprobs. */
  topLogprobs: number | null;
}

/** Throws PoolError (400) naming what the engine can't do. */
export function translate(
  settings: UpstreamSettings,
  model: UpstreamModel,
  inference: Inference,
  grant: Grant,
  drawSalt: () => string,
): Translated {
  const { make } = settings;
  const { request } = inference;
  const prompts = inference.kind === 'chat' ? 1 : promptsOf(inference.request.prompt).length;
  const choices = choicesOf(make, request.n ?? 1, prompts);
  const maxTokens = outputBound(model, inference, grant.holdTokens, prompts, choices);
  const { topLogprobs, ...logprobs } = logprobsOf(make, inference);
  if (request.logit_bias && !make.logitBias) throw unsupported(make, 'logit_bias');
  if ((request.cache_retention ?? NEUTRAL_RETENTION) !== NEUTRAL_RETENTION) throw unsupported(make, 'cache_retention');
  const body = {
    model: model.name,
    ...contentOf(make, inference),
    ...make.always,
    stream: true,
    max_tokens: maxTokens,
    ...(choices > prompts && { n: choices / prompts }),
    ...samplingOf(make, inference),
    ...(typeof request.seed === 'number' && { seed: make.seed(Math.abs(request.seed)) }),
    ...(request.stop != null && { stop: [request.stop].flat() }),
    ...(request.logit_bias && { logit_bias: request.logit_bias }),
    ...logprobs.body,
    ...(settings.priority && make.priority?.(grant.priority)),
    ...cacheOf(settings, inference, grant, drawSalt),
  };
  const path = inference.kind === 'chat' ? '/v1/chat/completions' : '/v1/completions';
  return { path, body, prompts, choices, maxTokens, topLogprobs };
}

/** As every chat template knows them. */
export function plainMessages(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map(({ role, content, name }) => ({
    role: role === 'developer' ? 'system' : role,
    content: contentText(content),
    ...(name !== undefined && { name }),
  }));
}

function choicesOf(make: Make, n: number, prompts: number): number {
  if (n > 1 && !make.choices) throw unsupported(make, 'n');
  if (prompts * n > LIMITS.prompts)
    throw invalidRequest(`${prompts} prompts × n = ${n} are more than ${LIMITS.prompts} choices.`, 'n');
  return prompts * n;
}

function contentOf(make: Make, { kind, request }: Inference): object {
  if (kind === 'chat') return { messages: plainMessages(request.messages) };
  if (request.echo) throw unsupported(make, 'echo');
  const prompts = promptsOf(request.prompt);
  if (prompts.length > 1 && !make.promptLists) throw unsupported(make, 'prompt');
  if (!make.promptIds && prompts.some((prompt) => typeof prompt !== 'string')) throw unsupported(make, 'prompt');
  return { prompt: prompts.length === 1 ? prompts[0] : prompts };
}

/** Each choice's part of the output that the hold allows: at least a token of each prompt is held besides. */
function outputBound(
  model: UpstreamModel,
  inference: Inference,
  holdTokens: number,
  prompts: number,
  choices: number,
): number {
  const { request } = inference;
  const asked =
    (inference.kind === 'chat' ? inference.request.max_completion_tokens : null) ?? request.max_tokens ?? null;
  if (asked === 0) throw invalidRequest("'max_tokens' needs to be 1 or more.", 'max_tokens');
  const share = Math.floor((holdTokens - prompts) / choices);
  if (share < 1)
    throw invalidRequest(
      'The hold is smaller than the prompt and one token of each choice; reserve more.',
      null,
      'hold_too_small',
    );
  return Math.min(asked ?? model.contextLength, share);
}

function samplingOf(make: Make, { kind, request }: Inference): object {
  const names = { ...make.sampling, ...(kind === 'completion' && make.completionSampling) };
  const values: Record<string, number> = {};
  for (const [param, neutral] of Object.entries(NEUTRAL_SAMPLING) as [SamplingName, number][]) {
    const name = names[param];
    const value = request[param] ?? neutral;
    if (name === null && value !== neutral) throw unsupported(make, param);
    if (name === null || (value === neutral && !make.sendsNeutral)) continue;
    values[name] = param === 'top_k' && value === 0 ? make.allTopK : value;
  }
  return values;
}

function logprobsOf(make: Make, { kind, request }: Inference): { topLogprobs: number | null; body: object } {
  const top = kind === 'chat' ? (request.top_logprobs ?? null) : null;
  if (top !== null && kind === 'chat' && !request.logprobs)
    throw invalidRequest("'top_logprobs' needs 'logprobs' to be true.", 'top_logprobs');
  const wanted = kind === 'chat' ? (request.logprobs ? (top ?? 0) : null) : (request.logprobs ?? null);
  if (wanted === null) return { topLogprobs: null, body: {} };
  if (!make.logprobs[kind]) throw unsupported(make, 'logprobs');
  // Some take 0 alternatives for no logprobs at all: what is too much is left out of the answer.
  const body =
    kind === 'chat' ? { logprobs: true, top_logprobs: Math.max(1, wanted) } : { logprobs: Math.max(1, wanted) };
  return { topLogprobs: wanted, body };
}

function cacheOf(
  { make, sharedCache }: UpstreamSettings,
  { kind, request }: Inference,
  { cache }: Grant,
  drawSalt: () => string,
): object {
  if (request.cache_salt != null)
    throw invalidRequest("'cache_salt' is for the gateway, which signs the namespace that it selects.", 'cache_salt');
  const allowed = cache !== null && request.cache !== false;
  const salt = saltField(make.cache, kind);
  if (salt !== null) return { [salt]: allowed ? cache.scope.namespace : drawSalt() };
  if (make.cache.kind === 'switch') return allowed && sharedCache ? make.cache.on : make.cache.off;
  if (!allowed) throw unsupported(make, 'cache');
  // A cache that tenants share is the operator's word, for all requests of this kind.
  if (!sharedCache)
    throw invalidRequest(
      `${make.title} can't keep tenants' prefixes apart in ${kind === 'chat' ? 'chats' : 'completions'}; the operator may allow it with sharedCache.`,
      null,
      'unsupported_parameter',
    );
  return {};
}

export function saltField(cache: CacheIsolation, kind: Inference['kind']): string | null {
  return cache.kind === 'salt' ? cache.field[kind] : null;
}
