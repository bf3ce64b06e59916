// GET /v1/organization/usage/completions (buckets, filters, grouping and paging as OpenAI's) and …/usage/export. Use stands in the
// bucket of its reservation. Both first bring the store up to the ledgers, as far as the host can; an export of the rows from `cursor` to
// `until` is the same bytes each time.
import { Hono } from 'hono';
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { checked } from '../requestBody.ts';
import { BUCKETS, bucketPage } from '../usage/buckets.ts';
import { exportUsage } from '../usage/export.ts';
import { exportFocus } from '../usage/focus.ts';
import type { UsageFilter, UsageGroup, UsageSum } from '../usage/port.ts';
import { bucketsBody, pageOffset } from './bucketBody.ts';
import { filterList, pageToken, queryOf, unixSeconds } from './queryLists.ts';

const groups = z.enum(['project_id', 'api_key_id', 'model', 'user_id', 'batch', 'service_tier']);

const filterQuery = {
  start_time: unixSeconds.optional(),
  end_time: unixSeconds.optional(),
  project_ids: filterList,
  api_key_ids: filterList,
  models: filterList,
};
export const usageQuery = z.strictObject({
  ...filterQuery,
  start_time: unixSeconds,
  bucket_width: z.enum(['1m', '1h', '1d']).default('1d'),
  group_by: z.array(groups).max(6).default([]),
  limit: z.coerce.number().int().min(1).optional(),
  page: pageToken.optional(),
});
/** Of the usage store: rows in the order in which it took them in. */
const sequence = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
export const exportQuery = z.strictObject({
  ...filterQuery,
  format: z.enum(['csv', 'jsonl', 'focus']).default('jsonl'),
  cursor: sequence.default(0),
  until: sequence.optional(),
});

/** Parameters that come as lists. */
const LISTS: ReadonlySet<string> = new Set(['project_ids', 'api_key_ids', 'models', 'group_by']);

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
export function usageRoutes({ usage, directory, clock, freshenUsage, settings }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/completions', async (c) => {
    const query = checked(usageQuery, queryOf(c.req.url, LISTS));
    const { defaultLimit, maxLimit, ms } = BUCKETS[query.bucket_width];
    const limit = query.limit ?? defaultLimit;
    if (limit > maxLimit)
      throw invalidRequest(`'limit' is at most ${maxLimit} for bucket_width=${query.bucket_width}.`, 'limit');
    const filter = filterOf(query, clock.now());
    if (filter.endMs <= filter.startMs) throw invalidRequest(`'end_time' must be later than 'start_time'.`, 'end_time');
    const page = bucketPage(filter, query.bucket_width, limit, pageOffset(query.page));
    await freshenUsage(query.project_ids);
    const columns = query.group_by.filter((group): group is UsageGroup =>
      /^(project_id|api_key_id|model)$/.test(group),
    );
    const within = { ...filter, startMs: Math.max(filter.startMs, page.startMs), endMs: page.endMs };
    const sums = await usage.sums(within, page.startMs, ms, [...new Set(columns)]);
    return c.json(bucketsBody(page, ms, sums, resultBody));
  });
  app.get('/export', async (c) => {
    const query = checked(exportQuery, queryOf(c.req.url, LISTS));
    await freshenUsage(query.project_ids);
    const watermark = await usage.watermark();
    const range = { after: query.cursor, upTo: Math.min(watermark, query.until ?? watermark) };
    const filter = filterOf(query, clock.now());
    const nameOf = async (project: string) => (await directory.project(project))?.name ?? project;
    const body =
      query.format === 'focus'
        ? exportFocus(usage, filter, range, settings.billing, nameOf)
        : exportUsage(usage, filter, query.format, range);
    const isCsv = query.format !== 'jsonl';
    return c.body(body, 200, {
      'content-type': isCsv ? 'text/csv; charset=utf-8; header=present' : 'application/jsonl; charset=utf-8',
      'content-disposition': `attachment; filename="hearth-${query.format === 'focus' ? 'focus' : 'usage'}.${isCsv ? 'csv' : 'jsonl'}"`,
      'x-next-cursor': String(range.upTo),
    });
  });
  return app;
}
