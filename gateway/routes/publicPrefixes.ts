// /v1/organization/public_prefixes: declare, list and withdraw the beginnings of prompts whose cached blocks all projects share. A
// declaration is tried on a pool first, so that what can't be shared is refused with the reason.
import { Hono } from 'hono';
import { declarationBytes, PREFIX_LIMITS, prefixDeclaration } from '../../pool/wire/publicPrefixes.ts';
import { fromPool, invalidRequest, modelNotFound, noPoolReady, notFound, poolFailed } from '../errors.ts';
import { drawId } from '../ids.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { PoolRequestError } from '../relay/poolRequest.ts';
import type { KnownPrefix } from '../relay/publicPrefixes.ts';
import { readJson } from '../requestBody.ts';
import { pageOf, secondsOrNull, slicePage } from './lists.ts';

function prefixBody({ publicPrefixes }: GatewayPorts, { prefix, source, createdAtMs }: KnownPrefix) {
  const { id, model, ...content } = prefix;
  const reports = publicPrefixes.reports(id);
  return {
    id,
    object: 'organization.public_prefix',
    model,
    ...content,
    source,
    created_at: secondsOrNull(createdAtMs),
    pools: reports.map(({ pool, report }) => ({ pool, ...report, id: undefined })),
  };
}

/** Below /v1/organization/public_prefixes; the admin key is checked already. */
export function publicPrefixRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { publicPrefixes, registry, clock, log } = ports;
  const publishAll = () => Promise.all(registry.pools.map((pool) => publicPrefixes.publish(pool)));

  app.post('/', async (c) => {
    const declaration = await readJson(c.req.raw, prefixDeclaration, ports.settings.maxBodyBytes);
    refuseOverLimits(publicPrefixes.all, declarationBytes(declaration));
    const choice = registry.choose(declaration.model);
    if (choice.kind === 'unknown_model') throw modelNotFound(declaration.model);
    if (choice.kind === 'none_ready') throw noPoolReady(declaration.model);
    const requestId = c.get('requestId');
    const tokens = await choice.pool.client.renderPrefix(declaration).catch((error: unknown) => {
      if (!(error instanceof PoolRequestError)) throw error;
      throw error.failure.kind === 'refused' ? fromPool(error.failure.error, requestId) : poolFailed();
    });
    // Others may have been declared meanwhile.
    refuseOverLimits(publicPrefixes.all, declarationBytes(declaration));
    const prefix = { id: drawId('prefix', ports.random), ...declaration };
    const createdAtMs = clock.now();
    await publicPrefixes.add(prefix, createdAtMs);
    log.info('public_prefix_declared', { prefix: prefix.id, model: prefix.model, tokens });
    await publishAll();
    return c.json(prefixBody(ports, { prefix, createdAtMs, source: 'api' }));
  });
  app.get('/', (c) => {
    const all = publicPrefixes.all.map((known) => prefixBody(ports, known));
    return c.json(slicePage(all, pageOf(c.req.query())));
  });
  app.delete('/:id', async (c) => {
    const id = c.req.param('id');
    if (publicPrefixes.all.some(({ prefix, source }) => prefix.id === id && source === 'configuration'))
      throw invalidRequest('This prefix stands in the configuration. Remove it there and start again.', null);
    if (!(await publicPrefixes.delete(id))) throw notFound('This public prefix');
    log.info('public_prefix_deleted', { prefix: id });
    await publishAll();
    return c.json({ id, object: 'organization.public_prefix.deleted', deleted: true });
  });
  return app;
}

/** Throws GatewayError (400). */
function refuseOverLimits(all: readonly KnownPrefix[], bytes: number): void {
  const total = all.reduce((sum, { prefix }) => sum + declarationBytes(prefix), bytes);
  if (all.length >= PREFIX_LIMITS.prefixes)
    throw invalidRequest(`There are ${all.length} public prefixes already, the most there may be. Delete one.`, null);
  if (total > PREFIX_LIMITS.setBytes)
    throw invalidRequest(
      `All public prefixes together would have ${total} bytes of at most ${PREFIX_LIMITS.setBytes}. Delete one.`,
      null,
    );
}
