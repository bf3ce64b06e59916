import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RadixThreshold } from './radixThreshold.ts';

describe('radix threshold', () => {
  it('finds what a sort finds, for any floats and whole weights', () => {
    const threshold = new RadixThreshold();
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.oneof(fc.float({ noNaN: true }), fc.constantFrom(0, 1, 1, -1, 1.0000001)).map((value) => value + 0),
            fc.integer({ min: 1, max: 3 }),
          ),
          { minLength: 1, maxLength: 60 },
        ),
        fc.integer({ min: 1, max: 100 }),
        (pairs, target) => {
          const values = Float32Array.from(pairs, ([value]) => value);
          const weights = Float64Array.from(pairs, ([, weight]) => weight);
          const sorted = [...values]
            .map((value, i) => ({ value, weight: weights[i]! }))
            .sort((a, b) => b.value - a.value);
          let sum = 0;
          const border = sorted.find(({ weight }) => {
            sum += weight;
            return sum >= target;
          });
          const found = threshold.find(values, weights, target);
          expect(found?.value).toBe(border?.value);
          expect(threshold.find(values, null, target)?.value).toBe(sorted[target - 1]?.value);
          if (!border) return;
          const above = sorted.filter(({ value }) => value > border.value).reduce((all, { weight }) => all + weight, 0);
          expect(found?.above).toBe(above);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
