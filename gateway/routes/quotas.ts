// GET and PUT …/token_quotas: hard limits in tokens per calendar window, for all models together or for named ones.
import { Hono } from 'hono';
import { z } from 'zod';
import { roomOf } from '../ledger/decide.ts';
import { MAX_QUOTA_MODELS, MAX_QUOTAS, type QuotaRule, type QuotaState } from '../ledger/port.ts';
import { isTimeZone } from '../ledger/windows.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { secondsOrNull } from './lists.ts';
import { activeProject, knownProject } from './projects.ts';

const rule = z.strictObject({
  window: z.enum(['day', 'month', 'lifetime']),
  limit_tokens: z.int().min(0),
  models: z.array(z.string().min(1).max(256)).min(1).max(MAX_QUOTA_MODELS).nullish(),
  time_zone: z.string().max(64).refine(isTimeZone, 'not an IANA time zone, such as Europe/Berlin').default('UTC'),
});
const rules = z
  .array(rule)
  .max(MAX_QUOTAS)
  .refine(distinct, 'two quotas have the same window, models and time zone; the smaller limit alone would count');

type RuleBody = z.output<typeof rule>;

function distinct(list: readonly RuleBody[]): boolean {
  const same = ({ window, models, time_zone }: RuleBody) =>
    JSON.stringify([window, models && [...models].sort(), time_zone]);
  return new Set(list.map(same)).size === list.length;
}

function ruleOf({ window, limit_tokens, models, time_zone }: RuleBody): QuotaRule {
  return { window, limitTokens: limit_tokens, models: models ?? null, timeZone: time_zone };
}

export function quotaBody(quota: QuotaState) {
  return {
    object: 'organization.project.token_quota',
    window: quota.window,
    limit_tokens: quota.limitTokens,
    models: quota.models,
    time_zone: quota.timeZone,
    used: quota.settledTokens,
    held: quota.heldTokens,
    remaining: roomOf(quota),
    resets_at: secondsOrNull(quota.resetsAtMs),
  };
}

/** Below /v1/organization/projects/:project/token_quotas; the admin key is checked already. */
export function quotaRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { ledger, clock } = ports;
  const path = '/:project/token_quotas';
  const body = (quotas: readonly QuotaState[]) => ({ object: 'list', data: quotas.map(quotaBody) });
  app.get(path, async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    return c.json(body(await ledger.quotas(project.id, clock.now())));
  });
  app.put(path, async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const wanted = await readJson(c.req.raw, rules, ports.settings.maxBodyBytes);
    ports.log.info('quotas_put', { project: project.id, quotas: wanted.length });
    return c.json(body(await ledger.putQuotas(project.id, wanted.map(ruleOf), clock.now())));
  });
  return app;
}
