// A trace through a routing policy and simulated pools, arrival by arrival. The policy hears of a prompt when its first token comes, as a gateway does.
import type { RoutingPolicy } from '../../gateway/routing/policy.ts';
import type { RecordedRequest } from '../simCache/trace.ts';
import type { ExactMap } from './exactMap.ts';
import { type PoolSpeed, SimulatedPool } from './pool.ts';

export interface Setting {
  pools: number;
  /** Of each pool's cache. */
  capacityBlocks: number;
  blockTokens: number;
  speed: PoolSpeed;
}

export interface RoutingOutcome {
  /** Of all blocks of prompts, in %. */
  hitRate: number;
  /** Between arrival and the beginning of the prompt. */
  waitMs: { p50: number; p99: number };
  firstTokenMs: { p50: number; p99: number };
  /** Requests of the busiest pool, over the mean. */
  imbalance: number;
}

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;

const quantiles = (values: number[]): { p50: number; p99: number } => {
  const sorted = values.toSorted((a, b) => a - b);
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
};

interface Answer {
  atMs: number;
  tell: () => void;
}

/** `exact`: the policy's map, where that is to know the pools' caches. */
export function simulateRouting(
  requests: readonly RecordedRequest[],
  policy: RoutingPolicy,
  { pools: count, capacityBlocks, blockTokens, speed }: Setting,
  exact?: ExactMap,
): RoutingOutcome {
  const pools = Array.from(
    { length: count },
    (_, i) => new SimulatedPool(`pool-${i}`, capacityBlocks, blockTokens, speed),
  );
  exact?.watch(pools);
  const taken = pools.map(() => 0);
  const waits: number[] = [];
  const firsts: number[] = [];
  let [blocks, hits] = [0, 0];
  let pending: Answer[] = [];
  for (const { blocks: prompt, arrivalMs, outputTokens } of requests) {
    const nowMs = arrivalMs ?? 0;
    for (const { atMs, tell } of pending) if (atMs <= nowMs) tell();
    pending = pending.filter(({ atMs }) => atMs > nowMs);
    // A block's number stands for its whole prefix, as a chained digest does.
    const pieces = Array.from(prompt, String);
    const candidates = pools.map((pool) => ({ id: pool.id, load: pool.load(nowMs) }));
    const chosen = policy.choose(candidates, pieces);
    const { id, load } = candidates[chosen]!;
    const served = pools[chosen]!.serve(nowMs, prompt, outputTokens ?? 0);
    pending.push({
      atMs: nowMs + served.firstTokenMs,
      tell: () => {
        policy.answered?.(id, load, served.firstTokenMs);
        policy.computed?.(id, pieces);
      },
    });
    taken[chosen]! += 1;
    blocks += prompt.length;
    hits += served.hitBlocks;
    waits.push(served.waitMs);
    firsts.push(served.firstTokenMs);
  }
  return {
    hitRate: (100 * hits) / blocks,
    ...{ waitMs: quantiles(waits), firstTokenMs: quantiles(firsts) },
    imbalance: (Math.max(...taken) * count) / requests.length,
  };
}
