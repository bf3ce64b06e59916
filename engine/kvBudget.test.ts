// The memory for KV is divided without a byte more than there is, and an error says which field to change.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_KV_BLOCKS, divideKvBudget, type KvDemand } from './kvBudget.ts';

const demand = (over: Partial<KvDemand> = {}): KvDemand => ({
  ...{ model: 'm', blockBytes: 1000, kvBlocks: null, weight: 1 },
  ...over,
});

describe('dividing the budget', () => {
  it('gives what is named, and shares the rest by weight', () => {
    const demands = [demand({ kvBlocks: 10 }), demand({ weight: 3 }), demand({ blockBytes: 500 })];
    expect(divideKvBudget(90_000, demands)).toEqual([10, 60, 40]);
  });

  it('without a budget gives what is named, or the default', () => {
    expect(divideKvBudget(null, [demand({ kvBlocks: 7 }), demand()])).toEqual([7, DEFAULT_KV_BLOCKS]);
  });

  it('never gives more than there is, and wastes less than a block of each', () => {
    const any = fc.record({
      model: fc.constant('m'),
      blockBytes: fc.integer({ min: 1, max: 1e6 }),
      kvBlocks: fc.option(fc.integer({ min: 2, max: 1000 })),
      weight: fc.double({ min: 0.01, max: 100, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e12 }),
        fc.array(any, { minLength: 1, maxLength: 8 }),
        (bytes, demands) => {
          let blocks: number[];
          try {
            blocks = divideKvBudget(bytes, demands);
          } catch (error) {
            expect(error).toMatchObject({ code: 'kv_budget', message: expect.stringContaining('pool.kvBytes') });
            return;
          }
          const used = blocks.reduce((sum, count, i) => sum + count * (demands[i]?.blockBytes ?? 0), 0);
          expect(used).toBeLessThanOrEqual(bytes);
          const sharing = demands.filter(({ kvBlocks }) => kvBlocks === null);
          if (sharing.length === 0) return;
          // 1e-6 of the budget for what floating point loses.
          expect(bytes - used).toBeLessThanOrEqual(sharing.reduce((sum, d) => sum + d.blockBytes, 0) + bytes * 1e-6);
        },
      ),
    );
  });

  it('says which field is too small', () => {
    const named = [demand({ model: 'a', kvBlocks: 5 }), demand({ model: 'b', kvBlocks: 6 })];
    expect(() => divideKvBudget(10_000, named)).toThrow(/kvBlocks of a, b need 11000 bytes.*Raise pool\.kvBytes/);
    expect(() => divideKvBudget(12_000, [...named, demand({ model: 'c' })])).toThrow(/share of c .* 1000 bytes/);
  });
});
