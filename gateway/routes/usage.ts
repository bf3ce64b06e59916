// GET /v1/organization/usage/completions (buckets, filters, grouping and paging as OpenAI's) and …/usage/export. Use stands in the
// bucket of its reservation. Both first bring the store up to the ledgers, as far as the host can.
import { Hono } from 'hono';
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { checked } from '../requestBody.ts';
import { BUCKETS, bucketPage } from '../usage/buckets.ts';
import { exportUsage } from '../usage/export.ts';
import type { UsageFilter, UsageGroup, UsageSum } from '../usage/port.ts';

/** Values per filter: longer lists belong into several queries. */
const MAX_FILTER_VALUES = 100;

/** Unix seconds, as far as dates go. */
const unixSeconds = z.coerce.number().int().min(0).max(8_640_000_000_000);
const list = z.array(z.string().min(1).max(256)).max(MAX_FILTER_VALUES).optional();
const groups = z.enum(['project_id', 'api_key_id', 'model', 'user_id', 'batch', 'service_tier']);

const filterQuery = {
  start_time: unixSeconds.optional(),
  end_time: unixSeconds.optional(),
  project_ids: list,
  api_key_ids: list,
  models: list,
};
const usageQuery = z.strictObject({
  ...filterQuery,
  start_time: unixSeconds,
  bucket_width: z.enum(['1m', '1h', '1d']).default('1d'),
  group_by: z.array(groups).max(6).default([]),
  limit: z.coerce.number().int().min(1).optional(),
  page: z
    .string()
    .regex(/^page_\d{1,16}$/, 'not a next_page of an earlier answer')
    .optional(),
});
const exportQuery = z.strictObject({
  ...filterQuery,
  format: z.enum(['csv', 'jsonl']).default('jsonl'),
  cursor: z.coerce.number().int().min(0).default(0),
});

/** Parameters that come as lists: `name`, repeated or separated by commas, or `name[]` as OpenAI's clients send them. */
const LISTS: ReadonlySet<string> = new Set(['project_ids', 'api_key_ids', 'models', 'group_by']);

function queryOf(url: string): Record<string, unknown> {
  const query: Record<string, unknown> = {};
  const params = new URL(url).searchParams;
  for (const raw of new Set(params.keys())) {
    const name = raw.replace(/\[\d*\]$/, '');
    const values = params.getAll(raw);
    query[name] = LISTS.has(name) ? values.flatMap((value) => value.split(',')) : values[0];
  }
  return query;
}

function filterOf(query: z.output<z.ZodObject<typeof filterQuery>>, nowMs: number): UsageFilter {
  const { start_time = 0, end_time, project_ids, api_key_ids, models } = query;
  return {
    startMs: start_time * 1000,
    endMs: end_time === undefined ? nowMs + 1 : end_time * 1000,
    ...(project_ids && { projects: project_ids }),
    ...(api_key_ids && { keys: api_key_ids }),
    ...(models && { models }),
  };
}

function resultBody({ group, inputTokens, cachedInputTokens, outputTokens, requests }: UsageSum) {
  return {
    object: 'organization.usage.completions.result',
    input_tokens: inputTokens,
    input_cached_tokens: cachedInputTokens,
    input_uncached_tokens: inputTokens - cachedInputTokens,
    output_tokens: outputTokens,
    num_model_requests: requests,
    ...group,
    user_id: null,
    batch: null,
    service_tier: null,
  };
}

/** Below /v1/organization/usage; the admin key is checked already. */
export function usageRoutes({ usage, clock, freshenUsage }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/completions', async (c) => {
    const query = checked(usageQuery, queryOf(c.req.url));
    const { defaultLimit, maxLimit, ms } = BUCKETS[query.bucket_width];
    const limit = query.limit ?? defaultLimit;
    if (limit > maxLimit)
      throw invalidRequest(`'limit' is at most ${maxLimit} for bucket_width=${query.bucket_width}.`, 'limit');
    const filter = filterOf(query, clock.now());
    if (filter.endMs <= filter.startMs) throw invalidRequest(`'end_time' must be later than 'start_time'.`, 'end_time');
    const page = bucketPage(filter, query.bucket_width, limit, query.page ? Number(query.page.slice(5)) : undefined);
    await freshenUsage(query.project_ids);
    const columns = query.group_by.filter((group): group is UsageGroup =>
      /^(project_id|api_key_id|model)$/.test(group),
    );
    const within = { ...filter, startMs: Math.max(filter.startMs, page.startMs), endMs: page.endMs };
    const sums = await usage.sums(within, page.startMs, ms, [...new Set(columns)]);
    const byBucket = Map.groupBy(sums, ({ bucketMs }) => bucketMs);
    return c.json({
      object: 'page',
      data: page.startsMs.map((startMs) => ({
        object: 'bucket',
        start_time: startMs / 1000,
        end_time: (startMs + ms) / 1000,
        results: (byBucket.get(startMs) ?? []).map(resultBody),
      })),
      has_more: page.nextMs !== null,
      next_page: page.nextMs === null ? null : `page_${page.nextMs}`,
    });
  });
  app.get('/export', async (c) => {
    const query = checked(exportQuery, queryOf(c.req.url));
    await freshenUsage(query.project_ids);
    const { body, watermark } = await exportUsage(usage, filterOf(query, clock.now()), query.format, query.cursor);
    return c.body(body, 200, {
      'content-type':
        query.format === 'csv' ? 'text/csv; charset=utf-8; header=present' : 'application/jsonl; charset=utf-8',
      'content-disposition': `attachment; filename="hearth-usage.${query.format}"`,
      'x-next-cursor': String(watermark),
    });
  });
  return app;
}
