// …/rate_limits in OpenAI's shape: one entry per model, and one for all models together (`*`). Every field is a limit of its own, so that
// an update changes exactly the fields that it names; null takes a limit away.
import { Hono } from 'hono';
import { z } from 'zod';
import { notFound } from '../errors.ts';
import type { LimitRule, LimitState } from '../ledger/limits.ts';
import type { LimitSet } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { readJson } from '../requestBody.ts';
import { putLimits } from './limits.ts';
import { pageOf, slicePage } from './lists.ts';
import { activeProject, knownProject } from './projects.ts';

const FIELDS = {
  max_requests_per_1_minute: { metric: 'requests', window: 'minute' },
  max_tokens_per_1_minute: { metric: 'tokens', window: 'minute' },
  max_requests_per_1_day: { metric: 'requests', window: 'day' },
  max_concurrent_requests: { metric: 'concurrent', window: 'none' },
} as const satisfies Record<string, Pick<LimitRule, 'metric' | 'window'>>;
type Field = keyof typeof FIELDS;
const FIELD_NAMES = [
  'max_requests_per_1_minute',
  'max_tokens_per_1_minute',
  'max_requests_per_1_day',
  'max_concurrent_requests',
] as const satisfies readonly Field[];

/** The entry of all models together. */
const ALL_MODELS = '*';

const amount = z.int().min(1).max(1_000_000_000_000).nullish();
export const rateLimitBody = z.strictObject({
  max_requests_per_1_minute: amount,
  max_tokens_per_1_minute: amount,
  max_requests_per_1_day: amount,
  max_concurrent_requests: amount,
});

function setOf(model: string, field: Field): string {
  return `rate_limits/${field}/${model}`;
}

function ruleSet(model: string, field: Field, limit: number | null): LimitSet {
  const models = model === ALL_MODELS ? null : [model];
  const rules = limit === null ? [] : [{ ...FIELDS[field], limit, models, timeZone: 'UTC' }];
  return { keyId: null, set: setOf(model, field), rules };
}

function entryBody(model: string, limits: readonly LimitState[]) {
  const amountOf = (field: Field) => limits.find(({ set }) => set === setOf(model, field))?.limit ?? null;
  const amounts = Object.fromEntries(FIELD_NAMES.map((field) => [field, amountOf(field)]));
  return { object: 'project.rate_limit', id: `rl-${model}`, model, ...amounts };
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function rateLimitRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { ledger, registry, clock, log } = ports;

  /** What is served, and what has a limit. */
  const modelsOf = (limits: readonly LimitState[]): string[] => {
    const limited = limits.flatMap(({ set, models }) => (set.startsWith('rate_limits/') ? (models ?? []) : []));
    return [ALL_MODELS, ...new Set([...registry.models().map(({ id }) => id), ...limited])];
  };

  app.get('/:project/rate_limits', async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    const limits = await ledger.limits(project.id, clock.now());
    return c.json(
      slicePage(
        modelsOf(limits).map((model) => entryBody(model, limits)),
        pageOf(c.req.query()),
      ),
    );
  });
  // A model's id may hold slashes.
  app.post('/:project/rate_limits/:id{.+}', async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const model = c.req.param('id').replace(/^rl-/, '');
    if (!modelsOf(await ledger.limits(project.id, clock.now())).includes(model)) throw notFound('This rate limit');
    const body = await readJson(c.req.raw, rateLimitBody, ports.settings.maxBodyBytes);
    const sets = FIELD_NAMES.flatMap((field) => {
      const limit = body[field];
      return limit === undefined ? [] : [ruleSet(model, field, limit)];
    });
    const limits = await putLimits(ports, project.id, sets);
    log.info('rate_limit_updated', { project: project.id, model });
    return c.json(entryBody(model, limits));
  });
  return app;
}
