// Every eviction policy by its name, as configuration and the simulator call it.
import { LearnedEviction } from './learned.ts';
import { LruEviction } from './lru.ts';
import { LruFb1Eviction } from './lruFb1.ts';
import type { EvictionPolicy } from './policy.ts';

export type MakeEvictionPolicy = (capacityBlocks: number) => EvictionPolicy;

export const EVICTION_POLICIES: Readonly<Record<string, MakeEvictionPolicy>> = {
  lru: (capacityBlocks) => new LruEviction(capacityBlocks),
  'lru-fb1': (capacityBlocks) => new LruFb1Eviction(capacityBlocks),
  learned: (capacityBlocks) => new LearnedEviction(capacityBlocks),
  default: (capacityBlocks) => new LearnedEviction(capacityBlocks),
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
