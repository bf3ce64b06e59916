// Limits as the routes take and show them: of every metric, window and scope in one shape. Spend is told in whole nano-dollars.
import { z } from 'zod';
import { invalidRequest } from '../errors.ts';
import { LIMIT_WINDOWS, type LimitRule, type LimitState, METRICS, roomOf } from '../ledger/limits.ts';
import { type LimitSet, MAX_KEY_LIMITS, MAX_NAMED_MODELS, MAX_TENANT_LIMITS } from '../ledger/port.ts';
import { isTimeZone } from '../ledger/windows.ts';
import type { GatewayPorts } from '../ports.ts';
import { MAX_NANO_USD } from '../prices/price.ts';
import { secondsOrNull } from './lists.ts';

export const timeZone = z
  .string()
  .max(64)
  .refine(isTimeZone, 'not an IANA time zone, such as Europe/Berlin')
  .default('UTC');
export const modelNames = z.array(z.string().min(1).max(256)).min(1).max(MAX_NAMED_MODELS);

const limit = z
  .strictObject({
    metric: z.enum(METRICS),
    window: z.enum(LIMIT_WINDOWS).optional(),
    limit: z.int().min(0).max(MAX_NANO_USD),
    models: modelNames.nullish(),
    time_zone: timeZone,
  })
  .refine(({ metric, window }) => (window === undefined || window === 'none') === (metric === 'concurrent'), {
    path: ['window'],
    message: "every metric needs one of minute, day, month, lifetime, but 'concurrent' has none",
  })
  .transform(
    ({ metric, window, limit, models, time_zone }): LimitRule => ({
      ...{ metric, window: window ?? 'none', limit, models: models ?? null, timeZone: time_zone },
    }),
  );

/** Limits of one key. */
export const keyLimits = z
  .array(limit)
  .max(MAX_KEY_LIMITS)
  .refine(distinct, 'two limits have the same metric, window, models and time zone; the smaller one alone would count');

/** Whether no two rules count the same. */
export function distinct(rules: readonly LimitRule[]): boolean {
  const counted = ({ metric, window, models, timeZone }: LimitRule) =>
    JSON.stringify([metric, window, models && [...models].sort(), timeZone]);
  return new Set(rules.map(counted)).size === rules.length;
}

/** Throws GatewayError (400) past the bound of limits. */
export async function putLimits(
  { ledger, clock }: Pick<GatewayPorts, 'ledger' | 'clock'>,
  projectId: string,
  sets: readonly LimitSet[],
): Promise<LimitState[]> {
  const limits = await ledger.putLimits(projectId, sets, clock.now());
  if (limits !== 'too_many') return limits;
  throw invalidRequest(
    `A project has at most ${MAX_TENANT_LIMITS} limits, and a key ${MAX_KEY_LIMITS} more. Remove some first.`,
    null,
  );
}

const UNITS = { requests: 'requests', tokens: 'tokens', spend: 'nano_usd', concurrent: 'requests' } as const;

export function limitBody(state: LimitState) {
  return {
    object: 'limit',
    scope: state.keyId === null ? 'project' : 'api_key',
    metric: state.metric,
    window: state.window,
    unit: UNITS[state.metric],
    limit: state.limit,
    models: state.models,
    time_zone: state.timeZone,
    ...usedBody(state),
  };
}

export function usedBody(state: LimitState) {
  return {
    used: state.settled,
    held: state.held,
    remaining: roomOf(state),
    resets_at: secondsOrNull(state.resetsAtMs),
  };
}
