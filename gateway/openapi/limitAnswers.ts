// Where limits stand: as a key's owner and as an administrator sees them.
import { z } from 'zod';
import { LIMIT_WINDOWS, METRICS } from '../ledger/limits.ts';
import { count, listAnswer, unixTimeOrNull } from './scalars.ts';

const used = {
  used: count.describe('Settled in the open window.'),
  held: count.describe('Reserved by requests that run.'),
  remaining: count,
  resets_at: unixTimeOrNull,
};
const models = z.array(z.string()).nullable().describe('null: all models together.');

export const limitAnswer = z.object({
  object: z.literal('limit'),
  scope: z.enum(['project', 'api_key']),
  metric: z.enum(METRICS),
  window: z.enum(LIMIT_WINDOWS),
  unit: z.enum(['requests', 'tokens', 'nano_usd']),
  limit: count,
  models,
  time_zone: z.string(),
  ...used,
});

export const tokenQuota = z.object({
  object: z.literal('organization.project.token_quota'),
  window: z.enum(['day', 'month', 'lifetime']),
  limit_tokens: count,
  models,
  time_zone: z.string(),
  ...used,
});
export const tokenQuotaList = z.object({ object: z.literal('list'), data: z.array(tokenQuota) });

const amount = count.nullable().describe('null: no limit.');
export const rateLimit = z.object({
  object: z.literal('project.rate_limit'),
  id: z.string(),
  model: z.string().describe('*: all models together.'),
  max_requests_per_1_minute: amount,
  max_tokens_per_1_minute: amount,
  max_requests_per_1_day: amount,
  max_concurrent_requests: amount,
});
export const rateLimitList = listAnswer(rateLimit);

export const spendLimit = z.object({
  object: z.literal('project.spend_limit'),
  threshold_amount: z.number().min(0).describe('US cents.'),
  currency: z.literal('USD'),
  interval: z.literal('month'),
  enforcement: z.object({ status: z.enum(['enforcing', 'inactive']) }),
  time_zone: z.string(),
  used_nano_usd: count,
  held_nano_usd: count,
  remaining_nano_usd: count,
  resets_at: unixTimeOrNull,
});
export const spendLimitDeleted = z.object({
  object: z.literal('project.spend_limit.deleted'),
  deleted: z.literal(true),
});
