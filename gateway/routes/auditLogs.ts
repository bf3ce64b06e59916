// GET /v1/organization/audit_logs, newest first, with OpenAI's filters.
import { Hono } from 'hono';
import { z } from 'zod';
import type { AuditEvent } from '../audit/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { checked } from '../requestBody.ts';
import { listBody, pageOf, pageQuery, seconds } from './lists.ts';
import { filterList, queryOf, unixSeconds } from './queryLists.ts';

const LISTS: ReadonlySet<string> = new Set(['project_ids', 'event_types', 'actor_ids', 'resource_ids']);
export const auditQuery = z.strictObject({
  project_ids: filterList,
  event_types: filterList,
  actor_ids: filterList,
  resource_ids: filterList,
  'effective_at[gt]': unixSeconds.optional(),
  'effective_at[gte]': unixSeconds.optional(),
  'effective_at[lt]': unixSeconds.optional(),
  'effective_at[lte]': unixSeconds.optional(),
  ...pageQuery.shape,
});

function eventBody({ id, atMs, type, actor, projectId, target, outcome }: AuditEvent) {
  return {
    object: 'organization.audit_log',
    id,
    type,
    effective_at: seconds(atMs),
    outcome,
    actor: { type: 'api_key', api_key: { type: 'service_account', id: actor } },
    ...(projectId !== null && { project: { id: projectId } }),
    [type]: { id: target },
  };
}

/** Below /v1/organization; the admin key is checked already. */
export function auditRoutes({ audit }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/audit_logs', async (c) => {
    const query = checked(auditQuery, queryOf(c.req.url, LISTS));
    // In whole seconds, as they are shown.
    const from = Math.max(query['effective_at[gte]'] ?? 0, (query['effective_at[gt]'] ?? -1) + 1);
    const to = Math.min(query['effective_at[lt]'] ?? Infinity, (query['effective_at[lte]'] ?? Infinity) + 1);
    const { items, hasMore } = await audit.events({
      ...pageOf(c.req.query()),
      fromMs: from * 1000,
      toMs: Math.min(Number.MAX_SAFE_INTEGER, to * 1000),
      ...(query.project_ids && { projects: query.project_ids }),
      ...(query.event_types && { types: query.event_types }),
      ...(query.actor_ids && { actors: query.actor_ids }),
      ...(query.resource_ids && { targets: query.resource_ids }),
    });
    return c.json(listBody(items.map(eventBody), hasMore));
  });
  return app;
}
