// The routing policies by the name that a configuration gives them.
import { LeastLatency } from './leastLatency.ts';
import type { RoutingPolicy } from './policy.ts';
import { PowerOfTwo } from './powerOfTwo.ts';
import { PrefixAffine } from './prefixAffine.ts';
import { RoundRobin } from './roundRobin.ts';

export const ROUTING_POLICIES = {
  'prefix-affine': () => new PrefixAffine(),
  'least-latency': () => new LeastLatency(),
  'power-of-two': (random) => new PowerOfTwo(random),
  'round-robin': () => new RoundRobin(),
} as const satisfies Record<string, (random: () => number) => RoutingPolicy>;

export type RoutingPolicyName = keyof typeof ROUTING_POLICIES;
export const ROUTING_POLICY_NAMES = Object.keys(ROUTING_POLICIES) as [RoutingPolicyName, ...RoutingPolicyName[]];
