// What the administration routes answer about projects, keys, prices and prefixes.
import { z } from 'zod';
import { chatMessage } from '../../pool/wire/inference.ts';
import { prefixReport } from '../../pool/wire/publicPrefixes.ts';
import { poolState } from '../../pool/wire/states.ts';
import { CACHE_SCOPES } from '../directory/port.ts';
import { limitAnswer } from './limitAnswers.ts';
import { count, deletedAnswer, listAnswer, unixTime, unixTimeOrNull } from './scalars.ts';

export const project = z.object({
  id: z.string(),
  object: z.literal('organization.project'),
  name: z.string(),
  created_at: unixTime,
  archived_at: unixTimeOrNull,
  status: z.enum(['active', 'archived']),
});
export const projectList = listAnswer(project);

export const serviceAccount = z.object({
  object: z.literal('organization.project.service_account'),
  id: z.string(),
  name: z.string(),
  role: z.literal('member'),
  created_at: unixTime,
});
export const serviceAccountList = listAnswer(serviceAccount);
export const serviceAccountDeleted = deletedAnswer('organization.project.service_account.deleted');

const shownOnce = z.string().describe('The key. This answer alone shows it.');
export const serviceAccountCreated = serviceAccount.extend({
  api_key: z.object({
    object: z.literal('organization.project.service_account.api_key'),
    id: z.string(),
    name: z.string(),
    value: shownOnce,
    created_at: unixTime,
    expires_at: unixTimeOrNull,
  }),
});

/** What is kept of a key, whoever's it is. */
const keptKey = {
  id: z.string(),
  name: z.string(),
  redacted_value: z.string(),
  created_at: unixTime,
  last_used_at: unixTimeOrNull,
  expires_at: unixTimeOrNull,
};

export const apiKey = z.object({
  object: z.literal('organization.project.api_key'),
  ...keptKey,
  allowed_models: z.array(z.string()).nullable().describe("null: all that the key's project may use."),
  limits: z.array(limitAnswer).describe("The key's own, beside its project's."),
  owner: z.object({ type: z.literal('service_account'), service_account: serviceAccount.optional() }),
  owner_project_access: z.literal('active'),
});
export const apiKeyList = listAnswer(apiKey);
export const apiKeyDeleted = deletedAnswer('organization.project.api_key.deleted');
export const apiKeyRotated = apiKey.extend({
  value: shownOnce,
  previous_value_expires_at: unixTime.describe('Until then the earlier value is good too.'),
});

export const keyStragglers = z.object({
  object: z.literal('list'),
  newest_pepper_version: z.int(),
  data: z.array(
    z.object({
      object: z.literal('key_straggler'),
      id: z.string(),
      pepper_version: z.int(),
      last_used_at: unixTimeOrNull,
    }),
  ),
});

export const servicePolicy = z.object({
  object: z.literal('organization.project.service_policy'),
  weight: z.number(),
  kv_floor_share: z.number(),
  cache_scope: z.enum(CACHE_SCOPES),
  max_concurrent_requests: z.int().min(1).nullable(),
  allowed_models: z.array(z.string()).nullable(),
});

export const price = z.object({
  object: z.literal('organization.price'),
  id: z.string(),
  model: z.string(),
  input_nano_usd: count,
  cached_input_nano_usd: count,
  output_nano_usd: count,
  effective_from: unixTime,
  created_at: unixTime,
});
export const priceList = listAnswer(price);

export const publicPrefix = z.object({
  id: z.string(),
  object: z.literal('organization.public_prefix'),
  model: z.string(),
  text: z.string().optional(),
  messages: z.array(chatMessage).optional(),
  token_ids: z.array(count).optional(),
  source: z.enum(['configuration', 'api']),
  created_at: unixTimeOrNull,
  pools: z
    .array(prefixReport.omit({ id: true }).extend({ pool: z.string() }))
    .describe('What became of it at each pool.'),
});
export const publicPrefixList = listAnswer(publicPrefix);
export const publicPrefixDeleted = deletedAnswer('organization.public_prefix.deleted');

const perMillion = z.string().nullable().describe('A decimal amount per million tokens; null: there was none.');
const tokenCost = z.object({
  computed_input: perMillion,
  input: perMillion.describe('Of all prompt tokens: those from a cache cost nothing.'),
  output: perMillion,
});
const trafficCost = {
  sequences: count,
  input_tokens: count,
  cached_input_tokens: count,
  output_tokens: count,
  cost: tokenCost.describe('Idle time included.'),
  at_work: tokenCost.describe('The device time of these tokens alone.'),
};
const poolCost = z.object({
  currency: z.string(),
  per_hour: z.string(),
  window_seconds: count,
  busy_share: z.number().min(0).max(1),
  spent: z.string(),
  idle: z.string().describe('Of what was spent: time without work, or for what has not ended.'),
  models: z.array(
    z.object({
      model: z.string(),
      ...trafficCost,
      spent: z.string(),
      charged: z
        .object({ computed_input: z.string(), cached_input: z.string(), output: z.string(), earned: z.string() })
        .nullable()
        .describe(
          'By the prices in force, per million; and what they bring for these tokens. null: other currency, or no price.',
        ),
      shapes: z
        .array(z.object({ prompt_below: count.nullable(), output_below: count.nullable(), ...trafficCost }))
        .describe('The same by length of prompt and of output; null: without bound.'),
    }),
  ),
});

export const pool = z.object({
  object: z.literal('organization.pool'),
  id: z.string(),
  source: z.enum(['configuration', 'api']),
  allowed_origins: z.array(z.string()).nullable(),
  created_at: unixTimeOrNull,
  last_heard_at: unixTimeOrNull,
  url: z.string().nullable(),
  ready: z.boolean().describe('Requests may go to it.'),
  retired: z.boolean().describe('Another takes its place.'),
  state: poolState.nullable().describe('null: it has never been heard.'),
  adapter: z.string().nullable(),
  running: count.nullable(),
  waiting: count.nullable(),
  blocks_total: count.nullable(),
  blocks_free: count.nullable(),
  models: z.array(z.object({ id: z.string(), state: poolState, fingerprint: z.string(), context_length: count })),
  cost: poolCost.nullable().describe('Of the last hour; null: the pool has no pricePerHour.'),
});
export const poolList = listAnswer(pool);
export const poolEnrolled = pool.extend({
  key: z.object({ id: z.string(), secret_hex: z.string().describe('This answer alone shows it.') }),
});
export const poolDeleted = deletedAnswer('organization.pool.deleted');

export const adminKey = z.object({
  object: z.literal('organization.admin_api_key'),
  ...keptKey,
  owner: z.object({
    type: z.literal('service_account'),
    object: z.literal('organization.service_account'),
    id: z.string(),
    name: z.string(),
    role: z.literal('owner'),
  }),
});
export const adminKeyList = listAnswer(adminKey);
export const adminKeyCreated = adminKey.extend({ value: shownOnce });
export const adminKeyDeleted = deletedAnswer('organization.admin_api_key.deleted');
