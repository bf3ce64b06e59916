// GET /v1/organization/costs in OpenAI's shape: per UTC day, grouped by project, key or line item (one meter of one model).
import { Hono } from 'hono';
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { decimalUsd } from '../prices/price.ts';
import { checked } from '../requestBody.ts';
import { BUCKETS, bucketPage } from '../usage/buckets.ts';
import { COST_GROUPS, type CostSum, costSums } from '../usage/costs.ts';
import { bucketsBody, pageOffset } from './bucketBody.ts';
import { filterList, pageToken, queryOf, unixSeconds } from './queryLists.ts';

const DEFAULT_DAYS = 7;
const MAX_DAYS = 180;
/** Sums that one page is made of; more belong into narrower queries. */
const MAX_SUMS = 100_000;

const LISTS: ReadonlySet<string> = new Set(['project_ids', 'api_key_ids', 'line_items', 'group_by']);
export const costQuery = z.strictObject({
  start_time: unixSeconds,
  end_time: unixSeconds.optional(),
  project_ids: filterList,
  api_key_ids: filterList,
  line_items: filterList,
  bucket_width: z.literal('1d').default('1d'),
  group_by: z.array(z.enum(COST_GROUPS)).max(COST_GROUPS.length).default([]),
  limit: z.coerce.number().int().min(1).max(MAX_DAYS).default(DEFAULT_DAYS),
  page: pageToken.optional(),
});

/** The number is as near as JSON's numbers come; `nano_usd` is exact. */
function resultBody({ group, nanoUsd, tokens }: CostSum) {
  return {
    object: 'organization.costs.result',
    amount: { value: Number(decimalUsd(nanoUsd)), currency: 'usd', nano_usd: nanoUsd.toString() },
    ...group,
    quantity: group.line_item === null ? null : tokens,
  };
}

/** Below /v1/organization; the admin key is checked already. */
export function costRoutes({ usage, clock, freshenUsage }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/costs', async (c) => {
    const query = checked(costQuery, queryOf(c.req.url, LISTS));
    const startMs = query.start_time * 1000;
    const endMs = query.end_time === undefined ? clock.now() + 1 : query.end_time * 1000;
    if (endMs <= startMs) throw invalidRequest(`'end_time' must be later than 'start_time'.`, 'end_time');
    const page = bucketPage({ startMs, endMs }, '1d', query.limit, pageOffset(query.page));
    await freshenUsage(query.project_ids);
    const { ms } = BUCKETS['1d'];
    const uses = await usage.priced({
      filter: {
        startMs: Math.max(startMs, page.startMs),
        endMs: page.endMs,
        ...(query.project_ids && { projects: query.project_ids }),
        ...(query.api_key_ids && { keys: query.api_key_ids }),
      },
      range: { after: 0, upTo: await usage.watermark() },
      originMs: page.startMs,
      widthMs: ms,
      byKey: query.group_by.includes('api_key_id'),
      limit: MAX_SUMS + 1,
    });
    if (uses.length > MAX_SUMS)
      throw invalidRequest(`More than ${MAX_SUMS} sums are in this page. Lower 'limit', or filter.`, 'limit');
    return c.json(bucketsBody(page, ms, costSums(uses, query.group_by, query.line_items), resultBody));
  });
  return app;
}
