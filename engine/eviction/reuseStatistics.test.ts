import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ageBounds, ReuseStatistics } from './reuseStatistics.ts';

const bounds = ageBounds(16, 4_096);
const binOf = (age: number) => bounds.findLastIndex((bound) => bound <= age);

/** Tells of blocks that were all used again at `age`, or never, where it is Infinity. */
function seen(statistics: ReuseStatistics, kind: number, age: number, blocks: number): void {
  const last = Math.min(binOf(age), statistics.bins - 1);
  for (let i = 0; i < blocks; i++) {
    for (let bin = 0; bin <= last; bin++) statistics.countReached(kind, bin);
    if (Number.isFinite(age)) statistics.countUsed(kind, last);
  }
}

describe('reuse statistics', () => {
  it('knowing nothing value a block less the older it is, and more the more it was used: a bonus for use on LRU', () => {
    const statistics = new ReuseStatistics([1, 2], bounds);
    // The first octave after the youngest bound is narrower than the bin before it: no order is promised below.
    const ages = Array.from({ length: 25 }, (_, i) => 32 * 1.25 ** i);
    for (const [i, age] of ages.entries()) {
      if (i > 0) {
        const before = ages[i - 1]!;
        expect(statistics.value(0, binOf(age), age)).toBeLessThan(statistics.value(0, binOf(before), before));
      }
      expect(statistics.value(1, binOf(age), age)).toBeGreaterThan(statistics.value(0, binOf(age), age));
    }
  });

  it('value what never comes back below what does', () => {
    const statistics = new ReuseStatistics([1, 1], bounds);
    seen(statistics, 0, Number.POSITIVE_INFINITY, 2_000);
    seen(statistics, 1, 300, 2_000);
    statistics.revalue();
    for (const age of [1, 100, 250])
      expect(statistics.value(1, binOf(age), age)).toBeGreaterThan(10 * statistics.value(0, binOf(age), age));
  });

  it('value a loop more the nearer it comes round, and hardly when it has passed', () => {
    const statistics = new ReuseStatistics([1], bounds);
    seen(statistics, 0, 1_000, 5_000);
    statistics.revalue();
    const [young, near, past] = [10, 700, 2_500].map((age) => statistics.value(0, binOf(age), age));
    expect(near).toBeGreaterThan(2 * young!);
    expect(past).toBeLessThan(young! / 2);
  });

  it('are continuous in age', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(20, 300, 1_000, Number.POSITIVE_INFINITY), fc.nat(200))),
        (told) => {
          const statistics = new ReuseStatistics([1], bounds);
          for (const [age, blocks] of told) seen(statistics, 0, age, blocks);
          statistics.revalue();
          for (let bin = 1; bin < statistics.bins; bin++) {
            const bound = bounds[bin]!;
            expect(statistics.value(0, bin - 1, bound)).toBeCloseTo(statistics.value(0, bin, bound), 12);
          }
        },
      ),
    );
  });
});

describe('age bounds', () => {
  it('rise from 0 over the youngest to the oldest, three to an octave', () => {
    expect([bounds[0], bounds[1], bounds.at(-1)]).toEqual([0, 16, 4_096]);
    expect(bounds.length).toBe(2 + 3 * 8);
    for (let i = 1; i < bounds.length; i++) expect(bounds[i]).toBeGreaterThan(bounds[i - 1]!);
  });
});
