// Plays a trace through the engine's own block manager and prefix index, one request at a time: admit, publish, release. Nothing is
// simulated but the tokens: each block of the trace is one KV block, whose tokens all are the number of its prefix.
import { BlockManager } from '../../engine/blockManager.ts';
import type { EvictionPolicy } from '../../engine/eviction/policy.ts';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import type { Trace } from './trace.ts';

export interface Count {
  servedBlocks: number;
  hitBlocks: number;
}

export interface Outcome extends Count {
  evictions: number;
  /** Of wall clock, index and block manager included. */
  seconds: number;
  tenants: Map<string, Count>;
}

/** Blocks that a prompt has beyond the capacity are served without the cache: misses. */
export function replay(trace: Trace, capacityBlocks: number, policy: EvictionPolicy): Outcome {
  const manager = new BlockManager(capacityBlocks, policy);
  const outcome: Outcome = { servedBlocks: 0, hitBlocks: 0, evictions: 0, seconds: 0, tenants: new Map() };
  const longest = trace.requests.reduce((most, { blocks }) => Math.max(most, blocks.length), 0);
  const buffer = new Int32Array(longest * BLOCK_TOKENS);
  // The trace's blocks are all full here, so the manager can't tell which of them ended a prompt in the middle.
  let partialDepth = -1;
  const admit = policy.admit.bind(policy);
  policy.admit = (block, facts) => admit(block, { ...facts, partial: facts.depth === partialDepth });
  const startedAt = performance.now();
  for (const { blocks, tenant, endsPartial } of trace.requests) {
    partialDepth = endsPartial ? blocks.length - 1 : -1;
    const held = Math.min(blocks.length, capacityBlocks);
    for (let i = 0; i < held; i++) buffer.fill(blocks[i]!, i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS);
    const positions = held * BLOCK_TOKENS;
    const tokens = buffer.subarray(0, positions);
    const table = manager.admit({
      scope: tenant,
      tokens,
      positions,
      maxCached: positions,
      capacityPositions: positions,
      headroomBlocks: 0,
    });
    if (!table) throw new Error('an idle cache has room for a request of at most its size');
    const count = outcome.tenants.get(tenant) ?? { servedBlocks: 0, hitBlocks: 0 };
    outcome.tenants.set(tenant, count);
    count.servedBlocks += blocks.length;
    count.hitBlocks += table.reused;
    manager.publish(table, tokens, positions);
    manager.release(table);
  }
  outcome.seconds = (performance.now() - startedAt) / 1000;
  outcome.evictions = manager.evictions;
  for (const { servedBlocks, hitBlocks } of outcome.tenants.values()) {
    outcome.servedBlocks += servedBlocks;
    outcome.hitBlocks += hitBlocks;
  }
  return outcome;
}

/** Of the served blocks, in %. */
export function hitRate({ servedBlocks, hitBlocks }: Count): number {
  return servedBlocks === 0 ? 0 : (100 * hitBlocks) / servedBlocks;
}
