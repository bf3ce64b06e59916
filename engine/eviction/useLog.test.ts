import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UseLog } from './useLog.ts';

const BOUNDS = Float64Array.of(0, 2, 5, 9);
const CAPACITY = 4;

describe('use log', () => {
  it('knows of each block what a list of all uses says, and forgets what is neither cached nor recent', () => {
    const operation = fc.tuple(fc.constantFrom('use', 'detach'), fc.nat(20));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const log = new UseLog(CAPACITY, BOUNDS);
        const cached = new Map<number, number>();
        const model = new Map<number, { last: number; uses: number }>();
        const aged: string[] = [];
        let now = 0;
        for (const [what, digest] of operations) {
          if (what === 'detach') {
            const entry = cached.get(digest);
            if (entry === undefined) continue;
            log.detach(entry);
            cached.delete(digest);
          } else {
            if (!cached.has(digest)) {
              if (cached.size === CAPACITY) continue;
              const block = [0, 1, 2, 3].find(
                (one) => ![...cached.values()].some((entry) => log.block[entry] === one),
              )!;
              cached.set(digest, log.attach(digest, block));
            }
            const entry = cached.get(digest)!;
            const before = model.get(digest);
            const uses = (before?.uses ?? 0) + 1;
            expect(log.countUse(entry)).toBe(uses);
            now += 1;
            model.set(digest, { last: now, uses });
            log.stamp(entry, (other, bin) => aged.push(`${now}:${log.lastUse[other]}:${bin}`));
            expect(log.now).toBe(now);
          }
          for (const [other, { last }] of model)
            if (!cached.has(other) && now - last >= BOUNDS.at(-1)!) model.delete(other);
          for (const [other, entry] of cached) {
            const { last } = model.get(other)!;
            expect([log.lastUse[entry], log.bin[entry]]).toEqual([
              last,
              BOUNDS.findLastIndex((bound) => bound <= now - last),
            ]);
          }
        }
        // Whatever is told to have aged was used exactly a bound ago.
        for (const one of aged) {
          const [at, last, bin] = one.split(':').map(Number);
          expect(at! - last!).toBe(BOUNDS[bin!]);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('does not take a second block for a prefix that is cached already', () => {
    const log = new UseLog(CAPACITY, BOUNDS);
    expect(log.attach(7, 0)).toBeGreaterThanOrEqual(0);
    expect(log.attach(7, 1)).toBe(-1);
  });
});
