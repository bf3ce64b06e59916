// What the clients of a storm will do, drawn from its seed alone: one request after another, each of one tenant and with one temper.
import type { Tenant } from '../support/gatewayClient.ts';

/** What a tenant may do; those with keys send nothing without one, so that every row of theirs is some key's. */
export interface TenantPlan {
  name: string;
  keyed: boolean;
  lifetimeTokens: number;
  requestsPerMinute?: number;
  atOnce?: number;
}

/** `tokens`: that all requests of a storm may take together; the narrow get a part of it. */
export function tenantPlans(tokens: number): TenantPlan[] {
  return [
    { name: 'wide', keyed: false, lifetimeTokens: 10 * tokens },
    { name: 'wide with keys', keyed: true, lifetimeTokens: 10 * tokens },
    { name: 'narrow', keyed: false, lifetimeTokens: Math.ceil(tokens / 20) },
    { name: 'narrow with keys', keyed: true, lifetimeTokens: Math.ceil(tokens / 12) },
    { name: 'few a minute', keyed: false, lifetimeTokens: 10 * tokens, requestsPerMinute: 60 },
    { name: 'few at once, with keys', keyed: true, lifetimeTokens: 10 * tokens, atOnce: 6 },
  ];
}

export interface PlannedRequest {
  /** Index of its tenant. */
  tenant: number;
  path: '/v1/chat/completions' | '/v1/completions';
  body: Record<string, unknown>;
  /** null: sent without one. */
  idempotencyKey: string | null;
  /** The client is gone after so long; one with a key comes back. null: it is patient. */
  patienceMs: number | null;
  /** Once answered, it asks again under its key. */
  asksAgain: boolean;
  /** And then with another body. */
  reusesKey: boolean;
}

export const MOST_TOKENS = 24;

export function planRequest(
  n: number,
  plans: readonly TenantPlan[],
  model: string,
  random: () => number,
): PlannedRequest {
  const chance = (share: number) => random() < share;
  const tenant = Math.floor(random() * plans.length);
  const keyed = plans[tenant]?.keyed ?? false;
  const chat = chance(0.5);
  const text = `${n} ${'x'.repeat(Math.floor(random() * 40))}`;
  const choices = chance(0.2) ? 2 : 1;
  return {
    tenant,
    path: chat ? '/v1/chat/completions' : '/v1/completions',
    body: {
      ...{ model, max_tokens: 1 + Math.floor(random() * MOST_TOKENS), temperature: 1, n: choices },
      ...(chat ? { messages: [{ role: 'user', content: text }] } : { prompt: text }),
      ...(chance(0.6) && { stream: true, stream_options: { include_usage: true } }),
    },
    idempotencyKey: keyed ? `storm-${n}` : null,
    patienceMs: chance(0.15) ? 5 + Math.floor(random() * 200) : null,
    asksAgain: chance(0.3),
    reusesKey: chance(0.1),
  };
}

/** A tenant of the gateway, as the plan has it. */
export interface PlannedTenant extends TenantPlan {
  tenant: Tenant;
}
