import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LruEviction } from './lru.ts';

describe('LRU eviction', () => {
  it('offers what a sorted list by last use offers, through any sequence of operations', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(15)), { maxLength: 200 }), (operations) => {
        const policy = new LruEviction(16);
        const usedAt = new Array<number>(16).fill(0);
        const present = new Set<number>();
        let now = 0;
        for (let block = 0; block < 16; block++) {
          policy.touch(block);
          usedAt[block] = ++now;
        }
        for (const [what, block] of operations) {
          if (what === 0 && present.has(block)) {
            policy.delete(block);
            present.delete(block);
          } else if (what === 1 && !present.has(block)) {
            policy.touch(block);
            usedAt[block] = ++now;
          } else if (!present.has(block)) {
            policy.insert(block);
            present.add(block);
          }
          const expected = [...present].sort((a, b) => usedAt[a]! - usedAt[b]!)[0] ?? -1;
          expect(policy.victim()).toBe(expected);
          expect(policy.size).toBe(present.size);
        }
      }),
      { numRuns: 500 },
    );
  });
});
