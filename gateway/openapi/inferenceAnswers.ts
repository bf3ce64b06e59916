// What the inference routes answer, in OpenAI's shapes. Shapes for the document and its tests alone: no answer is parsed on its way out.
import { z } from 'zod';
import { finishReason } from '../../pool/wire/events.ts';
import { limitAnswer } from './limitAnswers.ts';
import { count, unixTime, unixTimeOrNull } from './scalars.ts';

export const errorAnswer = z.object({
  error: z.object({
    message: z.string().describe('What is wrong, and the remedy. Never a key, a prompt or a completion.'),
    type: z
      .string()
      .describe('invalid_request_error, permission_error, requests, tokens, insufficient_quota or server_error.'),
    param: z.string().nullable().describe('The wrong field, as a dotted path: messages.0.role.'),
    code: z.string().nullable().describe('For programs: invalid_api_key, model_not_found, rate_limit_exceeded, …'),
  }),
});

export const usageAnswer = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count.describe('Of the prompt, answered from the prefix cache.') }),
  completion_tokens_details: z
    .object({ accepted_prediction_tokens: count, rejected_prediction_tokens: count })
    .describe('Drafts that the engine computed ahead; those rejected are in no other figure.'),
});

const logprob = z.object({
  token: z.string(),
  logprob: z.number().describe('Natural logarithm, before temperature and filters; -9999 stands for none.'),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
});
const chatLogprobs = z.object({
  content: z.array(logprob.extend({ top_logprobs: z.array(logprob) })),
  refusal: z.null(),
});
const head = {
  id: z.string(),
  created: unixTime,
  model: z.string(),
  system_fingerprint: z.string().describe('Equal fingerprints give the same bits for the same seed.'),
};
const servedTier = z.enum(['default', 'flex', 'priority']).optional().describe('Where the request named a tier.');

export const chatCompletion = z.object({
  ...head,
  service_tier: servedTier,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage: usageAnswer,
});

/** With stream_options.include_usage each chunk has `usage`, null but for the last. */
export const chatCompletionChunk = z.object({
  ...head,
  service_tier: servedTier,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        refusal: z.null().optional(),
      }),
      logprobs: chatLogprobs.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usageAnswer.nullish(),
});

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(count),
});
const completionHead = { ...head, object: z.literal('text_completion') };
const completionChoice = z.object({
  text: z.string(),
  index: count,
  logprobs: completionLogprobs.nullable(),
  finish_reason: finishReason,
});

export const completion = z.object({ ...completionHead, choices: z.array(completionChoice), usage: usageAnswer });

export const completionChunk = z.object({
  ...completionHead,
  choices: z.array(completionChoice.extend({ finish_reason: finishReason.nullable() })),
  usage: usageAnswer.nullish(),
});

export const model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: unixTime,
  owned_by: z.literal('hearth'),
  context_length: z.int().min(1),
});

export const modelList = z.object({ object: z.literal('list'), data: z.array(model) });

export const ownKey = z.object({
  object: z.literal('key'),
  id: z.string(),
  name: z.string(),
  project_id: z.string(),
  redacted_value: z.string(),
  created_at: unixTime,
  expires_at: unixTimeOrNull,
  allowed_models: z.array(z.string()).nullable().describe('null: all that are served.'),
  limits: z.array(limitAnswer),
});
