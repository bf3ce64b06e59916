// The best that any policy could do, knowing the future: evict the block whose next use is farthest away (Belady 1966). Counted in
// blocks this is exact, also with the running request's blocks pinned, and it respects the chain by itself: an ancestor's
// next use is never later than its descendant's.
import { BlockHeap, HeapKeys } from '../../engine/eviction/blockHeap.ts';
import type { Outcome } from './replay.ts';
import type { Trace } from './trace.ts';

/** For each use, in order of the trace, when the block is used next; Infinity for never. */
function nextUses({ requests, blockCount }: Trace): Float64Array {
  const uses = requests.reduce((sum, { blocks }) => sum + blocks.length, 0);
  const next = new Float64Array(uses);
  const seenAt = new Float64Array(blockCount).fill(Number.POSITIVE_INFINITY);
  let at = uses;
  for (const { blocks } of requests.toReversed()) {
    for (let i = blocks.length - 1; i >= 0; i--) {
      at -= 1;
      next[at] = seenAt[blocks[i]!]!;
      seenAt[blocks[i]!] = at;
    }
  }
  return next;
}

export function playOptimum(trace: Trace, capacityBlocks: number): Outcome {
  const next = nextUses(trace);
  const isCached = new Uint8Array(trace.blockCount);
  const idle = new BlockHeap(new HeapKeys(trace.blockCount));
  const outcome: Outcome = { servedBlocks: 0, hitBlocks: 0, evictions: 0, seconds: 0, tenants: new Map() };
  const startedAt = performance.now();
  let cached = 0;
  let at = 0;
  for (const { blocks } of trace.requests) {
    const held = Math.min(blocks.length, capacityBlocks);
    for (let i = 0; i < held; i++) {
      if (isCached[blocks[i]!]) {
        outcome.hitBlocks += 1;
        idle.remove(blocks[i]!);
      }
    }
    for (let i = 0; i < held; i++) {
      if (isCached[blocks[i]!]) continue;
      if (cached === capacityBlocks) {
        const victim = idle.first;
        idle.remove(victim);
        isCached[victim] = 0;
        outcome.evictions += 1;
        cached -= 1;
      }
      isCached[blocks[i]!] = 1;
      cached += 1;
    }
    for (let i = 0; i < held; i++) idle.push(blocks[i]!, -next[at + i]!);
    outcome.servedBlocks += blocks.length;
    at += blocks.length;
  }
  outcome.seconds = (performance.now() - startedAt) / 1000;
  return outcome;
}
