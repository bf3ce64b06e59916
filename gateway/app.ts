// The gateway as one Hono app: it knows ports, no platform, so the same app runs on Node and on Workers. Every answer carries its
// request id and time; every failure becomes the error table's answer, and our own bugs tell nothing but that id.
import { Hono } from 'hono';
import { routePath } from 'hono/route';
import { recordActions } from './audit/record.ts';
import { requireAdmin } from './authenticate.ts';
import { GatewayError, internalError, notFound, storageFailed } from './errors.ts';
import { drawRequestId } from './ids.ts';
import { errorFields } from './log.ts';
import type { AppEnv, GatewayPorts } from './ports.ts';
import { adminKeyRoutes } from './routes/adminKeys.ts';
import { apiKeyRoutes } from './routes/apiKeys.ts';
import { auditRoutes } from './routes/auditLogs.ts';
import { costRoutes } from './routes/costs.ts';
import { heartbeatRoutes } from './routes/heartbeat.ts';
import { inferenceRoutes } from './routes/inference.ts';
import { modelRoutes } from './routes/models.ts';
import { operationRoutes } from './routes/operations.ts';
import { poolRoutes } from './routes/pools.ts';
import { priceRoutes } from './routes/prices.ts';
import { projectRoutes } from './routes/projects.ts';
import { publicPrefixRoutes } from './routes/publicPrefixes.ts';
import { quotaRoutes } from './routes/quotas.ts';
import { rateLimitRoutes } from './routes/rateLimits.ts';
import { reconciliationRoutes } from './routes/reconciliation.ts';
import { referenceRoutes } from './routes/reference.ts';
import { servicePolicyRoutes } from './routes/servicePolicy.ts';
import { spendLimitRoutes } from './routes/spendLimit.ts';
import { usageRoutes } from './routes/usage.ts';
import { endRequest, requestSpan } from './trace.ts';

export function createApp(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { clock, log, metrics, tracer } = ports;

  app.use(async (c, next) => {
    const startedAtMs = clock.now();
    const requestId = drawRequestId(startedAtMs, ports.random);
    c.set('requestId', requestId);
    const span = requestSpan(tracer, c.req.raw, requestId);
    c.set('span', span);
    let told = false;
    c.set('commonHeaders', () => {
      told = true;
      const processingMs = Math.max(0, Math.round(clock.now() - startedAtMs));
      return { 'x-request-id': c.get('requestId'), 'openai-processing-ms': String(processingMs) };
    });
    await next();
    // Set on the headers, unlike c.header(), which makes another response of a finished one.
    if (!told || c.error)
      for (const [name, value] of Object.entries(c.get('commonHeaders')())) c.res.headers.set(name, value);
    const route = routeOf(routePath(c, -1));
    metrics.answered(`${c.req.method} ${route}`, c.res.status);
    endRequest(span, c.req.method, route, c.res.status);
  });

  app.use('/v1/organization/*', async (c, next) => {
    c.set('actor', await requireAdmin(c.req.raw, ports));
    await next();
  });
  app.use('/v1/organization/*', recordActions(ports));
  app.route('/v1/organization/projects', projectRoutes(ports));
  app.route('/v1/organization/projects', apiKeyRoutes(ports));
  app.route('/v1/organization/projects', quotaRoutes(ports));
  app.route('/v1/organization/projects', rateLimitRoutes(ports));
  app.route('/v1/organization/projects', spendLimitRoutes(ports));
  app.route('/v1/organization/projects', servicePolicyRoutes(ports));
  app.route('/v1/organization/prices', priceRoutes(ports));
  app.route('/v1/organization/public_prefixes', publicPrefixRoutes(ports));
  app.route('/v1/organization/pools', poolRoutes(ports));
  app.route('/v1/organization/admin_api_keys', adminKeyRoutes(ports));
  app.route('/v1/organization', auditRoutes(ports));
  app.route('/v1/organization', costRoutes(ports));
  app.route('/v1/organization/usage', usageRoutes(ports));
  app.route('/v1/organization/usage', reconciliationRoutes(ports));
  app.route('/', inferenceRoutes(ports));
  app.route('/', modelRoutes(ports));
  app.route('/', heartbeatRoutes(ports));
  app.route('/', operationRoutes(ports));
  app.route('/', referenceRoutes());

  app.notFound(() => answerOf(notFound('This route')));
  app.onError((error, c) => {
    if (error instanceof GatewayError) return answerOf(error);
    const requestId = c.get('requestId');
    log.error('internal_error', { request: requestId, ...errorFields(error) });
    return answerOf(storageFailed(error) ?? internalError(requestId));
  });
  return app;
}

function answerOf(error: GatewayError): Response {
  return Response.json(error.body(), { status: error.spec.status, headers: error.headers() });
}

/** The pattern, a closed set; what matched no route is one label. */
function routeOf(pattern: string): string {
  return pattern === '*' || pattern === '/*' ? 'other' : pattern;
}
