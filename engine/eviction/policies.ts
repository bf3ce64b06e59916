// Every eviction policy by its name, as configuration and the simulator call it. `default` is the best that there is for a cache of one
// account, and what the simulator takes for a trace without tenants; a pool, which has tenants, takes `multi-tenant` unless told otherwise.
import { LearnedEviction } from './learned.ts';
import { LruEviction } from './lru.ts';
import { LruFb1Eviction } from './lruFb1.ts';
import { MultiTenantEviction } from './multiTenant.ts';
import type { EvictionPolicy } from './policy.ts';
import { S3FifoEviction } from './s3Fifo.ts';

export type MakeEvictionPolicy = (capacityBlocks: number) => EvictionPolicy;

/** A tenant lends once it is a tenth of its share ahead: about what can be lost before the guarantee takes effect. */
const LENDING_MARGIN_SHARES = 0.1;

const lru: MakeEvictionPolicy = (capacityBlocks) => new LruEviction(capacityBlocks);
const lruFb1: MakeEvictionPolicy = (capacityBlocks) => new LruFb1Eviction(capacityBlocks);
const learned: MakeEvictionPolicy = (capacityBlocks) => new LearnedEviction(capacityBlocks);

/** Learning may cost that much of a capacity in hits before LRU takes over, once in so many turnovers: 0.6 % of what is served at most. */
const LEARNING_DEBT_SHARES = 0.1;
const LEARNING_TURNOVERS = 16;

/** The learned policy; what LRU would hold stays while that would have had more hits lately. */
const guarded: MakeEvictionPolicy = (capacityBlocks) =>
  new MultiTenantEviction(capacityBlocks, 'default', {
    inner: learned(capacityBlocks),
    makeAlone: lru,
    lendingMargin: -LEARNING_DEBT_SHARES,
    debtTurnovers: LEARNING_TURNOVERS,
    isSole: true,
  });

const multiTenant =
  (name: string, makeInner: MakeEvictionPolicy): MakeEvictionPolicy =>
  (capacityBlocks) =>
    new MultiTenantEviction(capacityBlocks, name, {
      inner: makeInner(capacityBlocks),
      makeAlone: makeInner,
      lendingMargin: LENDING_MARGIN_SHARES,
    });

export const EVICTION_POLICIES: Readonly<Record<string, MakeEvictionPolicy>> = {
  default: guarded,
  lru,
  'lru-fb1': lruFb1,
  's3-fifo': (capacityBlocks) => new S3FifoEviction(capacityBlocks),
  learned,
  'multi-tenant': multiTenant('multi-tenant', learned),
  'multi-tenant-lru': multiTenant('multi-tenant-lru', lru),
};

export class UnknownPolicyError extends Error {
  override readonly name = 'UnknownPolicyError';

  constructor(policy: string) {
    super(
      `there is no eviction policy ${JSON.stringify(policy)}; there are: ${Object.keys(EVICTION_POLICIES).join(', ')}`,
    );
  }
}

/** Throws UnknownPolicyError. */
export function createEvictionPolicy(name: string, capacityBlocks: number): EvictionPolicy {
  const make = Object.hasOwn(EVICTION_POLICIES, name) ? EVICTION_POLICIES[name] : undefined;
  if (!make) throw new UnknownPolicyError(name);
  return make(capacityBlocks);
}
