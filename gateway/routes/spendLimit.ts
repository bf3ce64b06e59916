// …/spend_limit in OpenAI's shape: the most that a project may spend in a calendar month, in cents. It is hard: a request is refused when
// its dearest outcome would pass it.
import { Hono } from 'hono';
import { z } from 'zod';
import { notFound } from '../errors.ts';
import { type LimitState, roomOf } from '../ledger/limits.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { MAX_NANO_USD, NANO_USD_PER_CENT } from '../prices/price.ts';
import { readJson } from '../requestBody.ts';
import { putLimits, timeZone } from './limits.ts';
import { secondsOrNull } from './lists.ts';
import { activeProject, knownProject } from './projects.ts';

const SPEND_LIMIT = 'spend_limit';

export const spendLimitBody = z.strictObject({
  threshold_amount: z
    .int()
    .min(0)
    .max(MAX_NANO_USD / NANO_USD_PER_CENT),
  currency: z.literal('USD').default('USD'),
  interval: z.literal('month').default('month'),
  time_zone: timeZone,
});

function spendBody(limits: readonly LimitState[]) {
  const limit = limits.find(({ set }) => set === SPEND_LIMIT);
  if (!limit) throw notFound('This spend limit');
  return {
    object: 'project.spend_limit',
    threshold_amount: limit.limit / NANO_USD_PER_CENT,
    currency: 'USD',
    interval: 'month',
    enforcement: { status: limit.settled >= limit.limit ? 'enforcing' : 'inactive' },
    time_zone: limit.timeZone,
    used_nano_usd: limit.settled,
    held_nano_usd: limit.held,
    remaining_nano_usd: roomOf(limit),
    resets_at: secondsOrNull(limit.resetsAtMs),
  };
}

/** Below /v1/organization/projects; the admin key is checked already. */
export function spendLimitRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { ledger, clock, settings } = ports;
  const path = '/:project/spend_limit';
  app.get(path, async (c) => {
    const project = await knownProject(ports, c.req.param('project'));
    return c.json(spendBody(await ledger.limits(project.id, clock.now())));
  });
  app.post(path, async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    const { threshold_amount, time_zone } = await readJson(c.req.raw, spendLimitBody, settings.maxBodyBytes);
    const limit = threshold_amount * NANO_USD_PER_CENT;
    const rule = { metric: 'spend', window: 'month', limit, models: null, timeZone: time_zone } as const;
    return c.json(spendBody(await putLimits(ports, project.id, [{ keyId: null, set: SPEND_LIMIT, rules: [rule] }])));
  });
  app.delete(path, async (c) => {
    const project = await activeProject(ports, c.req.param('project'));
    spendBody(await ledger.limits(project.id, clock.now()));
    await putLimits(ports, project.id, [{ keyId: null, set: SPEND_LIMIT, rules: [] }]);
    return c.json({ object: 'project.spend_limit.deleted', deleted: true });
  });
  return app;
}
