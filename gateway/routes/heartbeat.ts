// POST /v1/pools/heartbeat: an enrolled pool tells that it is there. Signed by the pool's own key, and about the pool that signed.
import { Hono } from 'hono';
import { HEARTBEAT_PATH, heartbeat, MAX_HEARTBEAT_BYTES } from '../../pool/wire/heartbeat.ts';
import { GatewayError, invalidRequest } from '../errors.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { jsonOf, readBytes } from '../requestBody.ts';

export function heartbeatRoutes({ pools, clock, log }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post(HEARTBEAT_PATH, async (c) => {
    const body = await readBytes(c.req.raw, MAX_HEARTBEAT_BYTES);
    const header = (name: string) => c.req.header(name);
    const signer = await pools.signer({ method: 'POST', path: HEARTBEAT_PATH, header, body });
    if ('reason' in signer) throw unsigned(signer.reason);
    const { pool, signedAtMs } = signer;
    const told = jsonOf(body, heartbeat);
    if (told.status.pool_id !== pool.id) throw invalidRequest('The status is of another pool.', 'status.pool_id');
    const { origin } = new URL(told.url);
    if (!pool.allowedOrigins.includes(origin))
      throw invalidRequest(`${pool.id} is enrolled for ${pool.allowedOrigins.join(', ')}, not for ${origin}.`, 'url');
    const counts = await pools.announce(pool, { ...told, signedAtMs, heardAtMs: clock.now() });
    if (!counts) throw unsigned('a later one was heard before');
    if (!pool.announced) log.info('pool_announced', { pool: pool.id, url: told.url });
    return c.json({ object: 'heartbeat' });
  });
  return app;
}

function unsigned(reason: string): GatewayError {
  return new GatewayError({
    status: 401,
    type: 'invalid_request_error',
    code: 'invalid_signature',
    message: `The heartbeat is not accepted as signed: ${reason}.`,
  });
}
