import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createEvictionPolicy } from '../../engine/eviction/policies.ts';
import { playOptimum } from './optimum.ts';
import { replay } from './replay.ts';
import { BlockNumbering, type Trace } from './trace.ts';

function traceOf(paths: number[][]): Trace {
  const numbering = new BlockNumbering();
  const requests = paths.map((path) => ({ blocks: numbering.number('', path), endsPartial: false, tenant: '' }));
  return { requests, blockCount: numbering.count };
}

/** The most hits by trying every leaf at every eviction. */
function bestByTrying({ requests }: Trace, capacityBlocks: number): number {
  const parents = new Map<number, number>();
  for (const { blocks } of requests) for (const [i, block] of blocks.entries()) parents.set(block, blocks[i - 1] ?? -1);
  const known = new Map<string, number>();
  const from = (at: number, cached: ReadonlySet<number>): number => {
    const request = requests[at];
    if (!request) return 0;
    const state = `${at}:${[...cached].sort((a, b) => a - b)}`;
    const before = known.get(state);
    if (before !== undefined) return before;
    const own = new Set(request.blocks.subarray(0, capacityBlocks));
    const hits = [...own].filter((block) => cached.has(block)).length;
    const full = new Set([...cached, ...own]);
    const shrink = (set: Set<number>): number => {
      if (set.size <= capacityBlocks) return from(at + 1, set);
      const above = new Set([...set].map((block) => parents.get(block)!));
      const leaves = [...set].filter((block) => !own.has(block) && !above.has(block));
      return Math.max(...leaves.map((leaf) => shrink(new Set([...set].filter((block) => block !== leaf)))));
    };
    const best = hits + shrink(full);
    known.set(state, best);
    return best;
  };
  return from(0, new Set());
}

const paths = fc.array(fc.array(fc.nat(2), { minLength: 1, maxLength: 3 }), { minLength: 3, maxLength: 9 });

it('is what trying every choice finds', () => {
  fc.assert(
    fc.property(paths, fc.integer({ min: 2, max: 5 }), (requests, capacityBlocks) => {
      const trace = traceOf(requests);
      expect(playOptimum(trace, capacityBlocks).hitBlocks).toBe(bestByTrying(trace, capacityBlocks));
    }),
    { numRuns: 150 },
  );
});

it('is reached by a policy where everything fits, and never passed', () => {
  fc.assert(
    fc.property(paths, fc.integer({ min: 3, max: 30 }), (requests, capacityBlocks) => {
      const trace = traceOf(requests);
      const best = playOptimum(trace, capacityBlocks).hitBlocks;
      const { hitBlocks } = replay(trace, capacityBlocks, createEvictionPolicy('lru', capacityBlocks));
      expect(hitBlocks).toBeLessThanOrEqual(best);
      if (capacityBlocks >= trace.blockCount) expect(hitBlocks).toBe(best);
    }),
    { numRuns: 150 },
  );
});
