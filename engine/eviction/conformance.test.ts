// What every policy guarantees, by one suite: it offers leaves that may leave and nothing else, always one while there is one, the same
// for the same history, and no priority keeps a block for ever. Driven by random requests over a random tree of prefixes.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replayPolicy } from '../../test/support/policyRig.ts';
import { createEvictionPolicy, EVICTION_POLICIES } from './policies.ts';
import { NEUTRAL_PRIORITY } from './policy.ts';

const request = fc.record({
  account: fc.constantFrom('a', 'b', 'c'),
  path: fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }),
  priority: fc.constantFrom(0, NEUTRAL_PRIORITY, 100),
  endsPartial: fc.boolean(),
  /** Requests that run beside it: it ends when they have. */
  staysFor: fc.nat(2),
});

describe.each(Object.keys(EVICTION_POLICIES))('%s', (name) => {
  const make = (capacityBlocks: number) => createEvictionPolicy(name, capacityBlocks);

  it('offers a leaf that nobody uses whenever there is one, through any requests', () => {
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 150 }),
        fc.integer({ min: 18, max: 40 }),
        (requests, capacityBlocks) => {
          replayPolicy(make(capacityBlocks), capacityBlocks, requests);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('decides the same for the same history', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 20, maxLength: 100 }), (requests) => {
        const victims = [1, 2].map(() => replayPolicy(make(18), 18, requests).victims);
        expect(victims[0]).toEqual(victims[1]);
      }),
      { numRuns: 50 },
    );
  });

  it('lets go of the highest priority when it is not used again', () => {
    const first = { account: 'a', path: [9], priority: 100, endsPartial: false, staysFor: 0 };
    const others = Array.from({ length: 4_000 }, (_, i) => ({ ...first, path: [10 + i], priority: NEUTRAL_PRIORITY }));
    expect(replayPolicy(make(18), 18, [first, ...others]).victims).toContain('a/9');
  });

  it('keeps of two blocks used alike the one of higher priority longer', () => {
    const one = (path: number, priority: number) => ({
      account: 'a',
      path: [path],
      priority,
      endsPartial: false,
      staysFor: 0,
    });
    const others = Array.from({ length: 60 }, (_, i) => one(10 + i, NEUTRAL_PRIORITY));
    const { victims } = replayPolicy(make(18), 18, [one(0, 100), one(1, 0), ...others]);
    const [high, low] = ['a/0', 'a/1'].map((block) => victims.indexOf(block));
    expect(low).toBeGreaterThanOrEqual(0);
    expect(high === -1 || high! > low!).toBe(true);
  });
});
