// What was done and what it costs: usage, costs, reconciliation, the audit log; and what operators ask.
import { z } from 'zod';
import { count, listAnswer, unixTime } from './scalars.ts';

function bucketPage<T extends z.ZodType>(result: T) {
  return z.object({
    object: z.literal('page'),
    data: z.array(
      z.object({ object: z.literal('bucket'), start_time: unixTime, end_time: unixTime, results: z.array(result) }),
    ),
    has_more: z.boolean(),
    next_page: z.string().nullable().describe('The `page` of the next query; null: this was the last.'),
  });
}

const tokens = { input_tokens: count, input_cached_tokens: count, output_tokens: count };
const group = z.string().nullable().describe('null: not grouped by it.');

export const usagePage = bucketPage(
  z.object({
    object: z.literal('organization.usage.completions.result'),
    ...tokens,
    input_uncached_tokens: count,
    num_model_requests: count,
    project_id: group,
    api_key_id: group,
    model: group,
    user_id: z.null(),
    batch: z.null(),
    service_tier: z.null(),
  }),
);

export const costPage = bucketPage(
  z.object({
    object: z.literal('organization.costs.result'),
    amount: z.object({
      value: z.number().describe("As near as JSON's numbers come."),
      currency: z.literal('usd'),
      nano_usd: z.string().regex(/^\d+$/).describe('Exact: whole nano-dollars.'),
    }),
    project_id: group,
    api_key_id: group,
    line_item: group,
    quantity: count.nullable().describe('Tokens; null unless grouped by line_item.'),
  }),
);

const tokensAnswer = z.object(tokens);
export const reconciliation = z.object({
  object: z.literal('reconciliation'),
  pools: z.array(z.object({ id: z.string(), reachable: z.boolean(), receipts: count, has_more: z.boolean() })),
  differences: z.array(
    z.object({
      request_id: z.string(),
      pool_id: z.string(),
      kind: z.enum(['unsettled', 'differs']),
      receipt: tokensAnswer,
      entry: tokensAnswer.nullable(),
    }),
  ),
  estimated: tokensAnswer.extend({ num_model_requests: count }).describe('What is billed by estimate, in all.'),
});

/** Besides these, the field that `type` names holds what was acted on: `{"id"}`. */
export const auditEvent = z.looseObject({
  object: z.literal('organization.audit_log'),
  id: z.string(),
  type: z.string().describe('As project.created. The field of this name holds the id of what was acted on.'),
  effective_at: unixTime,
  outcome: z
    .enum(['done', 'unknown'])
    .describe('unknown: the gateway failed or ended over it, so all, some or none of it was done.'),
  actor: z.object({
    type: z.literal('api_key'),
    api_key: z.object({ type: z.literal('service_account'), id: z.string() }),
  }),
  project: z.object({ id: z.string() }).optional(),
});
export const auditEventList = listAnswer(auditEvent);

export const alive = z.object({ status: z.literal('ok') });
export const ready = z.object({ status: z.literal('ready') });
