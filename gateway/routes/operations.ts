// What operators and load balancers ask: alive, ready, metrics. The first two need no key and tell no detail.
import { Hono } from 'hono';
import { poolState } from '../../pool/wire/states.ts';
import { requireAdmin } from '../authenticate.ts';
import { GatewayError } from '../errors.ts';
import { costFigures, poolCost } from '../pools/cost.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { isReady } from '../relay/poolRegistry.ts';

export function operationRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const { registry, metrics, clock } = ports;
  const app = new Hono<AppEnv>();
  app.get('/healthz', (c) => c.json({ status: 'ok' }));
  app.get('/readyz', (c) => {
    if (registry.ready()) return c.json({ status: 'ready' });
    throw new GatewayError({
      status: 503,
      type: 'server_error',
      code: 'no_pool_ready',
      message: 'Not every model has a ready pool.',
      retryAfterMs: 1000,
    });
  });
  app.get('/metrics', async (c) => {
    await requireAdmin(c.req.raw, ports);
    const nowMs = clock.now();
    const pools = registry.pools.map((pool) => ({
      name: 'hearth_gateway_pool_ready',
      labels: { pool: pool.client.target.id },
      value: isReady(pool, nowMs) ? 1 : 0,
    }));
    const states = registry.pools.flatMap(({ client, status }) =>
      poolState.options.map((state) => ({
        name: 'hearth_gateway_pool_state',
        labels: { pool: client.target.id, state },
        value: status?.state === state ? 1 : 0,
      })),
    );
    const costs = registry.pools.flatMap(({ client, status }) => {
      const cost = poolCost(status?.service, new Map());
      return (cost ? costFigures(cost) : []).map(({ value, ...labels }) => ({
        name: 'hearth_gateway_pool_cost_per_million_tokens',
        labels: { pool: client.target.id, currency: cost?.currency ?? '', ...labels },
        value,
      }));
    });
    const text = metrics.render([
      ...pools,
      ...costs,
      ...states,
      ...(await ports.gauges()),
      {
        name: 'hearth_gateway_requests_running',
        value: registry.pools.reduce((sum, pool) => sum + pool.inFlight.count(nowMs), 0),
      },
    ]);
    return c.body(text, 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  });
  return app;
}
