// The inference requests, as OpenAI's clients send them: one schema for both sides, so that what the gateway admits the pool
// understands. A pool also takes what only the gateway knows: where another began it. Unknown fields are refused by name, because a parameter that is
// silently ignored is a wrong answer.
import { z } from 'zod';
import { finishReason, usage } from './events.ts';
import { anyTokenIds, listOf, mapOf, tokenIds } from './lists.ts';

/** Bounds on what one request may hold; each keeps a single request from occupying a process. */
export const LIMITS = {
  /** Choices per prompt. */
  choices: 16,
  stopStrings: 16,
  stopLength: 256,
  messages: 2048,
  /** Text parts of a message. */
  parts: 2048,
  /** Prompts of a request; also its choices over all of them. */
  prompts: 128,
  topLogprobs: 20,
  logitBias: 1024,
  /** Pairs of metadata, as OpenAI's. */
  metadata: 16,
} as const;

/** OpenAI's, of which `auto` is `default`. */
export const SERVICE_TIERS = ['auto', 'default', 'flex', 'priority'] as const;

const stop = z
  .union([
    z.string().min(1).max(LIMITS.stopLength),
    listOf(z.string().min(1).max(LIMITS.stopLength), { min: 0, max: LIMITS.stopStrings }),
  ])
  .nullish();

const textPart = z.strictObject({ type: z.literal('text'), text: z.string() });

/** A message's content: a string, or text parts, which are joined. Other modalities are refused. */
const content = z.union([z.string(), listOf(textPart, { min: 1, max: LIMITS.parts })]);

export const chatMessage = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']).describe('Who says it.'),
  content: content.describe('What is said: text, or parts of text, which are joined.'),
  name: z.string().max(64).optional().describe('Tells speakers of one role apart, where the template knows names.'),
});
export type ChatMessage = z.infer<typeof chatMessage>;

const shared = {
  model: z.string().min(1).max(256),
  stream: z.boolean().nullish().describe('Server-sent events, the last of which is [DONE].'),
  stream_options: z
    .strictObject({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() })
    .nullish(),
  temperature: z.number().min(0).max(2).nullish().describe('0: the likeliest token each time. Absent: 1.'),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(0).max(1_000_000).nullish().describe('Only so many of the likeliest tokens; 0: all.'),
  min_p: z.number().min(0).max(1).nullish().describe('Only tokens at least so likely, as a share of the likeliest.'),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  /** A smaller one could take a logit past the largest number. */
  repetition_penalty: z.number().min(0.01).max(10).nullish(),
  logit_bias: mapOf(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100), LIMITS.logitBias)
    .nullish()
    .describe('Added to the logits of these token ids.'),
  n: z.int().min(1).max(LIMITS.choices).nullish().describe('Choices per prompt.'),
  seed: z.int().nullish().describe('The same seed and fingerprint give the same answer, bit for bit.'),
  stop,
  user: z.string().max(512).nullish(),
  metadata: mapOf(z.string().max(64), z.string().max(512), LIMITS.metadata).nullish(),
  service_tier: z
    .enum(SERVICE_TIERS)
    .nullish()
    .describe(
      'Order among the waiting requests of one project, before `priority`: flex goes last, priority first; auto is default.',
    ),
  priority: z
    .int()
    .min(-100)
    .max(100)
    .nullish()
    .describe('Among waiting requests of one project, the higher goes first. Absent: 0.'),
  cache: z.boolean().nullish().describe('false: neither read from the prefix cache nor leave anything in it.'),
  /** For the gateway: pools get a namespace. */
  cache_salt: z
    .string()
    .min(1)
    .max(256)
    .nullish()
    .describe("Requests of a project share cached prefixes only where this is equal (vLLM's name and meaning)."),
  cache_retention: z
    .int()
    .min(0)
    .max(100)
    .nullish()
    .describe(
      "How long what this leaves in the cache is worth keeping, beside the project's own: 50 is neutral, higher stays longer.",
    ),
};

export const chatRequest = z.strictObject({
  ...shared,
  messages: listOf(chatMessage, { min: 1, max: LIMITS.messages }),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
  store: z.literal(false).nullish(),
});
export type ChatRequest = z.infer<typeof chatRequest>;

export const completionRequest = z.strictObject({
  ...shared,
  prompt: z.union([
    z.string(),
    tokenIds,
    listOf(z.string(), { min: 1, max: LIMITS.prompts }),
    listOf(tokenIds, { min: 1, max: LIMITS.prompts }),
  ]),
  max_tokens: z
    .int()
    .min(0)
    .nullish()
    .describe('Per choice. 0 is allowed with echo: score a prompt, generate nothing.'),
  logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.literal(1).nullish(),
});
export type CompletionRequest = z.infer<typeof completionRequest>;

/**
 * What another pool, or an earlier life of this one, told of a request that it began: with it a pool of the same fingerprint goes on, and
 * sends what is behind that and nothing twice. The gateway's word, never a client's.
 */
export const resume = z.strictObject({
  /** Of the model that began it. */
  fingerprint: z.string().min(1).max(256),
  /** As the `prompt` event told them. They stand in place of rendering and tokenising: a template may know the date. */
  prompts: listOf(tokenIds, { min: 1, max: LIMITS.prompts }),
  /** Each choice's output ids so far, over all its deltas, and how it ended if it did. */
  choices: listOf(z.strictObject({ ids: anyTokenIds, finish_reason: finishReason.nullable() }), {
    min: 1,
    max: LIMITS.prompts,
  }),
  /** Per prompt: tokens that its `prompt_logprobs` events told; 0 where it had none. */
  prompt_logprobs: listOf(z.int().min(0), { min: 1, max: LIMITS.prompts }),
  /** The last running usage, of which these count; before the first, `cached_tokens` is 0. */
  usage: usage.pick({ cached_tokens: true, accepted_prediction_tokens: true, rejected_prediction_tokens: true }),
});
export type Resume = z.infer<typeof resume>;

const begunBefore = {
  resume: resume.nullish(),
  /** Nobody was told anything of it: what this pool may know of it has ended, and counts no more. */
  anew: z.literal(true).nullish(),
};

/** The requests as the gateway sends them to a pool. */
export const poolChatRequest = chatRequest.extend(begunBefore);
export type PoolChatRequest = z.infer<typeof poolChatRequest>;
export const poolCompletionRequest = completionRequest.extend(begunBefore);
export type PoolCompletionRequest = z.infer<typeof poolCompletionRequest>;

/** Body of POST /pool/count: what to count, as the inference request would be rendered. */
export const countRequest = z.union([
  z.strictObject({ model: z.string(), messages: chatRequest.shape.messages }),
  z.strictObject({ model: z.string(), prompt: completionRequest.shape.prompt }),
]);

/** The prompts of a completion, each as text or ids. */
export function promptsOf(prompt: CompletionRequest['prompt']): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  if (typeof prompt[0] === 'number') return [prompt as number[]];
  return prompt as (string | number[])[];
}

/** A message's text, its parts joined. */
export function contentText(value: ChatMessage['content']): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}
