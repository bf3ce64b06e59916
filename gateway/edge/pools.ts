// The pools of the Worker's environment as clients: randomness and fetch are the platform's.
import type { Clock, RandomBytes } from '../clock.ts';
import { PoolClient } from '../relay/poolClient.ts';
import type { EdgePool } from './config.ts';

export const webRandom: RandomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));

export function poolClients(
  pools: readonly EdgePool[],
  clock: Clock,
): { client: PoolClient; models: readonly string[] }[] {
  return pools.map(({ models, fetch, ...target }) => ({
    client: new PoolClient(target, { fetch, clock, random: webRandom }),
    models,
  }));
}
