// GET and PUT …/service_policy: the project's weight against others, its floor of the KV cache, whose requests share cached prefixes, how
// many run at once, and which models it may use. It counts from the next request on.
import { Hono } from 'hono';
import { z } from 'zod';
import { CACHE_SCOPES, DEFAULT_SERVICE_POLICY, type ServicePolicy } from '../directory/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { modelNames, putLimits } from './limits.ts';
import { activeProject, knownProject } from './projects.ts';

/** A weight further from 1 starves one side in practice. */
const MIN_WEIGHT = 0.01;
const MAX_WEIGHT = 1000;
/** Pools are told shares as decimals with so many places. */
const RESOLUTION = 0.0001;

/** To exactly that many places: `multipleOf` lets what binary fractions add pass (0.1 + 0.2), which no pool would take. */
const decimal = (value: number) => Math.round(value / RESOLUTION) / Math.round(1 / RESOLUTION);

export const servicePolicyBody = z.strictObject({
  weight: z
    .number()
    .min(MIN_WEIGHT)
    .max(MAX_WEIGHT)
    .multipleOf(RESOLUTION)
    .transform(decimal)
    .default(DEFAULT_SERVICE_POLICY.weight),
  kv_floor_share: z
    .number()
    .min(0)
    .max(1)
    .multipleOf(RESOLUTION)
    .transform(decimal)
    .default(DEFAULT_SERVICE_POLICY.kvFloorShare),
  cache_scope: z.enum(CACHE_SCOPES).default(DEFAULT_SERVICE_POLICY.cacheScope),
  max_concurrent_requests: z.int().min(1).max(1_000_000).nullable().default(null),
  allowed_models: modelNames.nullable().default(null),
});

const CONCURRENCY = 'service_policy';
const AT_ONCE = { metric: 'concurrent', window: 'none', models: null, timeZone: 'UTC' } as const;

interface LedgerPolicy {
  maxConcurrentRequests: number | null;
  allowedModels: readonly string[] | null;
}

function bodyOf({ weight, kvFloorShare, cacheScope }: ServicePolicy, ledgers: LedgerPolicy) {
  return {
    object: 'organization.project.service_policy',
    weight,
    kv_floor_share: kvFloorShare,
    cache_scope: cacheScope,
    max_concurrent_requests: ledgers.maxConcurrentRequests,
    allowed_models: ledgers.allowedModels,
  };
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function servicePolicyRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { directory, ledger, clock, log, settings } = ports;
  const ledgerPolicy = async (id: string): Promise<LedgerPolicy> => ({
    maxConcurrentRequests: (await ledger.limits(id, clock.now())).find(({ set }) => set === CONCURRENCY)?.limit ?? null,
    allowedModels: await ledger.allowedModels(id),
  });
  const path = '/:project/service_policy';
  app.get(path, async (c) => {
    const { id } = await knownProject(ports, c.req.param('project'));
    return c.json(bodyOf((await directory.service(id)).policy, await ledgerPolicy(id)));
  });
  app.put(path, async (c) => {
    const { id } = await activeProject(ports, c.req.param('project'));
    const body = await readJson(c.req.raw, servicePolicyBody, settings.maxBodyBytes);
    const { weight, kv_floor_share, cache_scope, allowed_models, max_concurrent_requests: limit } = body;
    const policy: ServicePolicy = { weight, kvFloorShare: kv_floor_share, cacheScope: cache_scope };
    const rules = limit === null ? [] : [{ ...AT_ONCE, limit }];
    await putLimits(ports, id, [{ keyId: null, set: CONCURRENCY, rules }]);
    await ledger.allowModels(id, allowed_models);
    await directory.putServicePolicy(id, policy);
    log.info('service_policy_put', { project: id, weight, kv_floor_share, cache_scope });
    return c.json(bodyOf(policy, await ledgerPolicy(id)));
  });
  return app;
}
