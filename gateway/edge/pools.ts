// The pools of the Worker's environment as clients: randomness and fetch are the platform's.
import type { Clock, RandomBytes } from '../clock.ts';
import { PoolClient } from '../relay/poolClient.ts';
import type { PoolPorts } from '../relay/poolRequest.ts';
import type { EdgePool } from './config.ts';

export const webRandom: RandomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));

/** How pools are reached that no binding leads to. */
export const webPorts = (clock: Clock): PoolPorts => ({
  fetch: (input, init) => fetch(input, init), // unbound, it would lose its global
  clock,
  random: webRandom,
});

export function poolClients(
  pools: readonly EdgePool[],
  clock: Clock,
): { client: PoolClient; models: readonly string[] }[] {
  return pools.map(({ models, fetch, ...target }) => ({
    client: new PoolClient(target, { fetch, clock, random: webRandom }),
    models,
  }));
}
