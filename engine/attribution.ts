// Who uses the engine: queue, slots and steps by tenant, for the signed status route and for metrics. Bounded: the tenants with the
// most, and `other` for the sum of the rest. A tenant that the queue has forgotten is in neither.
import type { FairQueue } from './fairQueue.ts';
import type { Sequence } from './sequence.ts';

/** Tenants named in an attribution unless told otherwise: keeps labels and messages small. */
export const TOP_TENANTS = 20;

export interface TenantUse {
  /** Sequences now. */
  running: number;
  waiting: number;
  /** Prompt and possible output tokens of those waiting. */
  waitingTokens: number;
  /** Since the tenant came: tokens computed for it in steps, recomputed ones included; output tokens released; times preempted. */
  computedTokens: number;
  outputTokens: number;
  preemptions: number;
}

export interface Attribution {
  /** By computed tokens, most first. `served`: its counter, weighted cost of the service it got. */
  tenants: (TenantUse & { tenant: string; weight: number; served: number })[];
  other: TenantUse;
}

export function attribute(queue: FairQueue, running: readonly Sequence[], top = TOP_TENANTS): Attribution {
  const slots = new Map<string, number>();
  for (const { request } of running) slots.set(request.tenant, (slots.get(request.tenant) ?? 0) + 1);
  const all = Array.from(queue.tenants(), (tenant) => ({
    tenant: tenant.name,
    weight: tenant.weight,
    served: tenant.served,
    running: slots.get(tenant.name) ?? 0,
    waiting: tenant.waiting,
    waitingTokens: tenant.waitingTokens,
    computedTokens: tenant.computedTokens,
    outputTokens: tenant.outputTokens,
    preemptions: tenant.preemptions,
  }));
  all.sort((a, b) => b.computedTokens - a.computedTokens || (a.tenant < b.tenant ? -1 : 1));
  const other: TenantUse = {
    running: 0,
    waiting: 0,
    waitingTokens: 0,
    computedTokens: 0,
    outputTokens: 0,
    preemptions: 0,
  };
  for (const rest of all.splice(top))
    for (const key of Object.keys(other) as (keyof TenantUse)[]) other[key] += rest[key];
  return { tenants: all, other };
}
