// /v1/organization/pools: enrol a pool (its key shown once), list all with their states, get, remove. Pools of the configuration are listed,
// and can't be removed here.
import { Hono } from 'hono';
import { z } from 'zod';
import type { PoolStatus } from '../../pool/wire/events.ts';
import { invalidRequest, notFound } from '../errors.ts';
import { drawId } from '../ids.ts';
import { poolCost } from '../pools/cost.ts';
import { isAllowedOrigin } from '../pools/directory.ts';
import { poolKey } from '../pools/poolKey.ts';
import { type EnrolledPool, type Enrolment, MAX_ENROLLED_POOLS } from '../pools/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { isReady, type PoolState } from '../relay/poolRegistry.ts';
import { readJson } from '../requestBody.ts';
import { pageOf, secondsOrNull, slicePage } from './lists.ts';

const MAX_ORIGINS = 8;
export const enrolPoolBody = z.strictObject({
  id: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'lower-case letters, digits and hyphens'),
  allowed_origins: z
    .array(z.string().max(256).refine(isAllowedOrigin, 'an origin as https://host:port, or http on this machine'))
    .min(1)
    .max(MAX_ORIGINS),
});

interface Listed {
  id: string;
  enrolment: EnrolledPool | null;
  known: PoolState | null;
}

/** Below /v1/organization/pools; the admin key is checked already. */
export function poolRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { pools, registry, clock, random, keyring, log, settings, prices } = ports;
  const costOf = async (status: PoolStatus | null) => {
    const service = status?.service;
    const served = service?.price ? service.models.map(({ model }) => model) : [];
    const price = async (model: string) => [model, await prices.priceAt(model, clock.now())] as const;
    return poolCost(service, new Map(await Promise.all(served.map(price))));
  };
  const poolBody = async ({ id, enrolment, known }: Listed) => {
    const status = known?.status ?? enrolment?.announced?.status ?? null;
    return {
      object: 'organization.pool',
      id,
      source: enrolment ? 'api' : 'configuration',
      allowed_origins: enrolment?.allowedOrigins ?? null,
      created_at: secondsOrNull(enrolment?.createdAtMs ?? null),
      last_heard_at: secondsOrNull(enrolment ? (enrolment.announced?.heardAtMs ?? null) : heardOf(known)),
      url: known?.client.target.url ?? enrolment?.announced?.url ?? null,
      ready: known !== null && isReady(known, clock.now()),
      retired: known?.retired ?? false,
      state: status?.state ?? null,
      adapter: status?.adapter ?? null,
      running: status?.running ?? null,
      waiting: status?.waiting ?? null,
      blocks_total: status?.blocks_total ?? null,
      blocks_free: status?.blocks_free ?? null,
      models: (status?.models ?? []).map(({ id: model, state, fingerprint, context_length }) => ({
        ...{ id: model, state, fingerprint, context_length },
      })),
      cost: await costOf(status),
    };
  };
  const all = async (): Promise<Listed[]> => {
    const enrolled = await pools.store.list();
    const known = new Map(registry.pools.map((pool) => [pool.client.target.id, pool]));
    const configured = [...known.keys()].filter((id) => pools.isConfigured(id));
    return [
      ...configured.map((id) => ({ id, enrolment: null, known: known.get(id) ?? null })),
      ...enrolled.map((enrolment) => ({ id: enrolment.id, enrolment, known: known.get(enrolment.id) ?? null })),
    ];
  };

  app.post('/', async (c) => {
    const { id, allowed_origins } = await readJson(c.req.raw, enrolPoolBody, settings.maxBodyBytes);
    const keyId = drawId('pool_key', random);
    const enrolment: Enrolment = { id, keyId, allowedOrigins: allowed_origins, createdAtMs: clock.now() };
    if (pools.isConfigured(id) || !(await pools.store.enrol(enrolment)))
      throw invalidRequest(
        `There is a pool ${id}, or there are ${MAX_ENROLLED_POOLS} already. Remove one first.`,
        'id',
      );
    log.info('pool_enrolled', { pool: id });
    const key = { id: keyId, secret_hex: poolKey(keyring, enrolment).toString('hex') };
    return c.json({ ...(await poolBody({ id, enrolment: { ...enrolment, announced: null }, known: null })), key });
  });
  app.get('/', async (c) => {
    const bodies = await Promise.all((await all()).map(poolBody));
    return c.json(slicePage(bodies, pageOf(c.req.query())));
  });
  app.get('/:id', async (c) => {
    const found = (await all()).find(({ id }) => id === c.req.param('id'));
    if (!found) throw notFound('This pool');
    return c.json(await poolBody(found));
  });
  app.delete('/:id', async (c) => {
    const id = c.req.param('id');
    if (pools.isConfigured(id)) throw invalidRequest('This pool stands in the configuration. Remove it there.', null);
    if (!(await pools.store.remove(id))) throw notFound('This pool');
    log.info('pool_removed', { pool: id });
    await pools.refresh();
    return c.json({ object: 'organization.pool.deleted', id, deleted: true });
  });
  return app;
}

/** When a pool of the configuration last told its status. */
function heardOf(known: PoolState | null): number | null {
  return known && Number.isFinite(known.statusAtMs) ? known.statusAtMs : null;
}
