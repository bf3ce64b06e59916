import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DigestMap } from './digestMap.ts';
import { UseHistory } from './useHistory.ts';

/** Few digests, many of which fall together, so that probes run into one another and round the end. */
const digest = fc.oneof(
  fc.nat(40),
  fc.nat(40).map((n) => n * 4294967296),
  fc.maxSafeNat(),
);

describe('digest map', () => {
  it('answers as a Map through any sequence of sets and deletes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), digest), { maxLength: 300 }), (operations) => {
        const map = new DigestMap(24);
        const model = new Map<number, number>();
        for (const [i, [isSet, key]] of operations.entries()) {
          if (!isSet) {
            map.delete(key);
            model.delete(key);
          } else if (model.has(key) || model.size < 24) {
            map.set(key, i);
            model.set(key, i);
          }
          expect(map.size).toBe(model.size);
          for (const [, other] of operations) expect(map.get(other)).toBe(model.get(other) ?? -1);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('refuses more than its bound', () => {
    const map = new DigestMap(2);
    map.set(1, 0);
    map.set(2, 0);
    map.set(2, 1);
    expect(() => map.set(3, 0)).toThrow('bound');
  });
});

describe('use history', () => {
  it('remembers the last that left, forgets who came back, and what left longest ago', () => {
    const history = new UseHistory(3);
    for (const [block, uses] of [
      [10, 1],
      [11, 2],
      [12, 3],
      [13, 4],
    ] as const)
      history.remember(block, uses);
    expect(history.recall(10)).toBe(0);
    expect(history.recall(12)).toBe(3);
    expect(history.recall(12)).toBe(0);
    history.remember(13, 9);
    history.remember(14, 5);
    expect([11, 13, 14].map((block) => history.recall(block))).toEqual([0, 9, 5]);
  });
});
