// Every administrative route that changes something, and what the audit log calls it. A middleware notes the action before the route begins
// and writes its entry when that has ended, so that no route can forget to; one without a name here is logged by its pattern.
import type { MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import { drawId } from '../ids.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';

/** An administrator's action that has not ended after this won't. */
export const ACTION_ENDS_WITHIN_MS = 900_000;

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
    const pattern = routePath(c, -1);
    const route = `${c.req.method} ${pattern}`;
    // Of no route there is only this middleware's own pattern.
    if (/^(GET|HEAD)$/.test(c.req.method) || pattern.endsWith('*')) return next();
    const { project, ...others } = namedIn(pattern, c.req.path);
    const id = drawId('audit_log', random);
    await audit.begin({
      ...{ id, atMs: clock.now(), type: AUDITED.get(route) ?? route, actor: c.get('actor') },
      projectId: project ?? null,
      target: Object.values(others).at(-1) ?? null,
    });
    await next();
    // What failed on our side may be done in part.
    const outcome = c.res.status >= 500 ? 'unknown' : 'refused';
    if (c.res.ok) await audit.end(id, 'done', (await createdId(c.res)) ?? null);
    else await audit.end(id, outcome, null);
  };
}

/** What a path names, as `:name` of its pattern does: a middleware is told only its own. */
function namedIn(pattern: string, path: string): Record<string, string> {
  const names: string[] = [];
  const source = pattern.replace(/:(\w+)(\{\.\+\})?/g, (_, name: string, rest?: string) => {
    names.push(name);
    return rest ? '(.+)' : '([^/]+)';
  });
  const values = new RegExp(`^${source}$`).exec(path)?.slice(1) ?? [];
  return Object.fromEntries(names.map((name, i) => [name, decoded(values[i] ?? '')]));
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** The id alone: an answer may show a new key's value. */
async function createdId(answer: Response): Promise<string | undefined> {
  const body: unknown = await answer.clone().json();
  return typeof body === 'object' && body !== null && 'id' in body && typeof body.id === 'string' ? body.id : undefined;
}
