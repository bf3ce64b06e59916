// Every administrative route that changes something, and what the audit log calls it. A middleware writes the entry when the route has
// succeeded, so that no route can forget to; one without a name here is logged by its pattern.
import type { MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import { drawId } from '../ids.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';

const PROJECT = '/v1/organization/projects/:project';

export const AUDITED: ReadonlyMap<string, string> = new Map([
  ['POST /v1/organization/projects', 'project.created'],
  [`POST ${PROJECT}`, 'project.updated'],
  [`POST ${PROJECT}/archive`, 'project.archived'],
  [`POST ${PROJECT}/service_accounts`, 'service_account.created'],
  [`DELETE ${PROJECT}/service_accounts/:account`, 'service_account.deleted'],
  [`POST ${PROJECT}/api_keys/:key`, 'api_key.updated'],
  [`POST ${PROJECT}/api_keys/:key/rotate`, 'api_key.rotated'],
  [`DELETE ${PROJECT}/api_keys/:key`, 'api_key.deleted'],
  [`PUT ${PROJECT}/token_quotas`, 'token_quotas.updated'],
  [`POST ${PROJECT}/rate_limits/:id{.+}`, 'rate_limit.updated'],
  [`POST ${PROJECT}/spend_limit`, 'spend_limit.updated'],
  [`DELETE ${PROJECT}/spend_limit`, 'spend_limit.deleted'],
  [`PUT ${PROJECT}/service_policy`, 'service_policy.updated'],
  ['POST /v1/organization/prices', 'price.created'],
  ['POST /v1/organization/public_prefixes', 'public_prefix.created'],
  ['DELETE /v1/organization/public_prefixes/:id', 'public_prefix.deleted'],
  ['POST /v1/organization/pools', 'pool.enrolled'],
  ['DELETE /v1/organization/pools/:id', 'pool.removed'],
  ['POST /v1/organization/admin_api_keys', 'admin_api_key.created'],
  ['DELETE /v1/organization/admin_api_keys/:key', 'admin_api_key.deleted'],
]);

/** Behind the check of the admin key, in front of the routes. */
export function recordActions({
  audit,
  clock,
  random,
}: Pick<GatewayPorts, 'audit' | 'clock' | 'random'>): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    await next();
    if (c.req.method === 'GET' || !c.res.ok) return;
    const route = `${c.req.method} ${routePath(c, -1)}`;
    const { project, ...others } = c.req.param() as Record<string, string>;
    const created = await createdId(c.res);
    await audit.append({
      id: drawId('audit_log', random),
      atMs: clock.now(),
      type: AUDITED.get(route) ?? route,
      actor: c.get('actor'),
      projectId: project ?? null,
      target: Object.values(others).at(-1) ?? created ?? project ?? null,
    });
  };
}

/** The id alone: an answer may show a new key's value. */
async function createdId(answer: Response): Promise<string | undefined> {
  const body: unknown = await answer.clone().json();
  return typeof body === 'object' && body !== null && 'id' in body && typeof body.id === 'string' ? body.id : undefined;
}
