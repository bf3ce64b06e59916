// What a pool tells the gateway while it serves one request: server-sent events, one JSON object each.
// The first event carries the exact prompt (so that the hold can shrink), then each delta carries ids, positions and the
// running usage (so that a broken connection loses nothing), and `done` carries the receipt that settles the bill.
import { z } from 'zod';
import { serviceReport } from './service.ts';
import { poolState } from './states.ts';

const tokenId = z.int().min(0);
const count = z.int().min(0);

export const logprobEntry = z.object({
  /** Absent where an engine of another make doesn't tell it. */
  id: tokenId.optional(),
  /** The token's own text; U+FFFD where its bytes are no whole character. */
  token: z.string(),
  /** The token's bytes, exact even where `token` is not. */
  bytes: z.array(z.int().min(0).max(255)).nullable(),
  /** Natural logarithm of the model's probability, before temperature and filters. Never -Infinity: floored at -9999. */
  logprob: z.number(),
});
export type LogprobEntry = z.infer<typeof logprobEntry>;

/** One token's logprob with the most likely alternatives, best first. `logprob` is null for a prompt's first token. */
export const tokenLogprob = logprobEntry.extend({
  logprob: z.number().nullable(),
  top: z.array(logprobEntry),
});
export type TokenLogprob = z.infer<typeof tokenLogprob>;

/**
 * Tokens that the engine computed ahead as guesses: those that the sampler then drew, which are among the completion's, and those that it
 * did not, which nobody is billed for. Absent where there were none.
 */
const predictions = {
  accepted_prediction_tokens: count.optional(),
  rejected_prediction_tokens: count.optional(),
};

export const usage = z.object({
  prompt_tokens: count,
  /** Part of prompt_tokens that was answered from the prefix cache. */
  cached_tokens: count,
  /** Output positions released so far, over all choices. */
  completion_tokens: count,
  ...predictions,
});
export type Usage = z.infer<typeof usage>;

/** Error envelope as OpenAI's; `status` is the HTTP status that goes with it. The last two are between pool and gateway. */
export const wireError = z.object({
  status: z.int(),
  message: z.string(),
  type: z.string(),
  param: z.string().nullable(),
  code: z.string().nullable(),
  retry_after_ms: z.number().optional(),
  /**
   * Nothing is wrong with the request: the pool, its engine or its room failed it, and a pool whose model has the same fingerprint may go on
   * where its events ended (`resume` of the request). Absent: it would fail there, too, or nobody knows.
   */
  resumable: z.literal(true).optional(),
});
export type WireError = z.infer<typeof wireError>;

export const finishReason = z.enum(['stop', 'length']);
export type FinishReason = z.infer<typeof finishReason>;

/** How a request ended, as the pool's journal knows it. `lost`: the pool process died while it ran. */
export const outcome = z.enum(['running', 'completed', 'cancelled', 'failed', 'lost']);
export type Outcome = z.infer<typeof outcome>;

/** What a pool has released for one request: the only ground on which it is billed. */
export const receipt = z.object({
  request_id: z.string().max(128),
  pool_id: z.string().max(128),
  tenant: z.string().max(128),
  model: z.string().max(256),
  prompt_tokens: count,
  cached_tokens: count,
  /** Released output positions, per choice. */
  choices: z.array(count),
  ...predictions,
  /** Some of what was released could not be counted exactly: the figures are what is proven. */
  estimated: z.literal(true).optional(),
  outcome,
  /** Unix milliseconds at which the pool accepted the request, and of its last change. */
  started_at_ms: z.number(),
  updated_at_ms: z.number(),
});
export type Receipt = z.infer<typeof receipt>;

export const poolEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('prompt'),
    /** Token ids of each prompt; none where the engine is of another make, and tells none. Choice c belongs to prompt floor(c / n). */
    prompts: z.array(z.array(tokenId)),
    /** null: not known before the receipt. */
    prompt_tokens: count.nullable(),
  }),
  z.object({
    type: z.literal('prompt_logprobs'),
    prompt: count,
    /**
     * One entry per prompt token, in order; may come in several events, each going on where the last ended. Comes with every echo:
     * where no logprobs were asked for, each logprob is null and only the texts count.
     */
    tokens: z.array(tokenLogprob),
  }),
  z.object({
    type: z.literal('delta'),
    choice: count,
    /** Output position of ids[0], from 0. */
    position: count,
    ids: z.array(tokenId),
    /** Output positions of it, where their ids are not known and `ids` is empty. */
    count: count.optional(),
    /** Text that became certain with these ids; what might still begin a stop string or a character is held back. */
    text: z.string(),
    logprobs: z.array(tokenLogprob).optional(),
    finish_reason: finishReason.optional(),
    usage,
  }),
  z.object({ type: z.literal('done'), usage, receipt }),
  z.object({ type: z.literal('error'), error: wireError, receipt: receipt.optional() }),
]);
export type PoolEvent = z.infer<typeof poolEvent>;

/**
 * Whether this is a delta of nothing but text, as nearly every event is: a reader of thousands a second need not walk the schema for each.
 * Says yes to nothing that the schema refuses; what it says no to is the schema's to judge.
 */
export function isTextDelta(value: unknown): value is Extract<PoolEvent, { type: 'delta' }> {
  if (typeof value !== 'object' || value === null) return false;
  const {
    type,
    choice,
    position,
    ids,
    count,
    text,
    logprobs,
    finish_reason,
    usage: used,
  } = value as Record<string, unknown>;
  return (
    type === 'delta' &&
    isCount(choice) &&
    isCount(position) &&
    Array.isArray(ids) &&
    ids.every(isCount) &&
    (count === undefined || isCount(count)) &&
    typeof text === 'string' &&
    logprobs === undefined &&
    (finish_reason === undefined || finish_reason === 'stop' || finish_reason === 'length') &&
    isUsage(used)
  );
}

/** The same of a prompt, which may be of a hundred thousand ids. */
export function isPrompt(value: unknown): value is Extract<PoolEvent, { type: 'prompt' }> {
  if (typeof value !== 'object' || value === null) return false;
  const { type, prompts, prompt_tokens } = value as Record<string, unknown>;
  return (
    type === 'prompt' &&
    isCount(prompt_tokens) &&
    Array.isArray(prompts) &&
    prompts.every((ids) => Array.isArray(ids) && ids.every(isCount))
  );
}

function isUsage(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const told = value as Record<string, unknown>;
  const { accepted_prediction_tokens: accepted = 0, rejected_prediction_tokens: rejected = 0 } = told;
  const counted = isCount(told.prompt_tokens) && isCount(told.cached_tokens) && isCount(told.completion_tokens);
  return counted && isCount(accepted) && isCount(rejected);
}

/** Output positions that a delta releases. */
export function positionsOf({ ids, count }: Pick<Extract<PoolEvent, { type: 'delta' }>, 'ids' | 'count'>): number {
  return count ?? ids.length;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Answer of POST /pool/count. */
export const countAnswer = z.object({ prompt_tokens: z.array(count) });

/** Answer of GET /pool/receipts?after=…&limit=… : receipts that have ended and are not yet acknowledged, oldest first. */
export const receiptsAnswer = z.object({ receipts: z.array(receipt), has_more: z.boolean() });

/** Body of DELETE /pool/receipts. Unknown ids are ignored, so that an acknowledgement can be repeated. */
export const acknowledgeBody = z.object({ request_ids: z.array(z.string().max(128)).max(1000) });

/** Body and answer of POST /pool/fence: whether the pool neither has the request nor takes it any more. May be repeated. */
export const fenceBody = z.object({ request_id: z.string().max(128) });
export const fenceAnswer = z.object({ fenced: z.boolean() });

/** Body of POST /pool/sleep and /pool/wake; without a model all of the pool are meant. */
export const moveBody = z.strictObject({ model: z.string().max(256).optional() });

/** A model as a pool serves it; part of GET /pool/status. */
export const servedModel = z.object({
  id: z.string(),
  created: z.int(),
  context_length: z.int().min(1),
  /** Most tokens that the chat template adds per message, and once per prompt: for the gateway's upper bound. */
  template_tokens_per_message: count,
  template_tokens_per_prompt: count,
  fingerprint: z.string(),
  state: poolState,
});
export type ServedModel = z.infer<typeof servedModel>;

export const poolStatus = z.object({
  pool_id: z.string(),
  /** Unix milliseconds of this process' start. Requests signed before it are refused. */
  started_at_ms: z.number(),
  /** Of the model that is nearest to warm. */
  state: poolState,
  models: z.array(servedModel),
  adapter: z.string(),
  running: count,
  waiting: count,
  blocks_total: count,
  blocks_free: count,
  /** Digest of the set of public prefixes that it has; null: none was pushed since its start. */
  public_prefixes: z.string().nullable(),
  /** Absent: it can't tell, since its device is a foreign server's. */
  service: serviceReport.optional(),
});
export type PoolStatus = z.infer<typeof poolStatus>;
