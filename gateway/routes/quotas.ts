// GET and PUT …/token_quotas: hard limits in tokens per calendar window, for all models together or for named ones.
import { Hono } from 'hono';
import { z } from 'zod';
import type { LimitRule, LimitState } from '../ledger/limits.ts';
import { MAX_TENANT_LIMITS } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { MAX_NANO_USD } from '../prices/price.ts';
import { readJson } from '../requestBody.ts';
import { distinct, modelNames, putLimits, timeZone, usedBody } from './limits.ts';
import { activeProject, knownProject } from './projects.ts';

export const TOKEN_QUOTAS = 'token_quotas';

const rule = z
  .strictObject({
    window: z.enum(['day', 'month', 'lifetime']),
    limit_tokens: z.int().min(0).max(MAX_NANO_USD),
    models: modelNames.nullish(),
    time_zone: timeZone,
  })
  .transform(
    ({ window, limit_tokens, models, time_zone }): LimitRule => ({
      ...{ metric: 'tokens', window, limit: limit_tokens, models: models ?? null, timeZone: time_zone },
    }),
  );
export const tokenQuotasBody = z
  .array(rule)
  .max(MAX_TENANT_LIMITS)
  .refine(distinct, 'two quotas have the same window, models and time zone; the smaller limit alone would count');

function quotaBody(state: LimitState) {
  return {
    object: 'organization.project.token_quota',
    window: state.window,
    limit_tokens: state.limit,
    models: state.models,
    time_zone: state.timeZone,
    ...usedBody(state),
  };
}

/** Below /v1/organization/projects/:project/token_quotas; the admin key is checked already. */
export function quotaRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { ledger, clock } = ports;
  const path = '/:project/token_quotas';
  const body = (limits: readonly LimitState[]) => ({
    object: 'list',
    data: limits.filter(({ set }) => set === TOKEN_QUOTAS).map(quotaBody),
  });
  app.get(path, async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    return c.json(body(await ledger.limits(project.id, clock.now())));
  });
  app.put(path, async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const wanted = await readJson(c.req.raw, tokenQuotasBody, ports.settings.maxBodyBytes);
    const limits = await putLimits(ports, project.id, [{ keyId: null, set: TOKEN_QUOTAS, rules: wanted }]);
    ports.log.info('quotas_put', { project: project.id, quotas: wanted.length });
    return c.json(body(limits));
  });
  return app;
}
