// The sliding minute against what it promises: whatever comes when, no 60 seconds of true time hold more than the limit.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  book,
  decodeRing,
  encodeRing,
  ledgerSecond,
  leftAtMs,
  type MinuteRing,
  slide,
  totals,
} from './minuteWindow.ts';

const START_MS = 1_800_000_000_000;

test('no 60 seconds hold more than the limit, wherever they begin', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.array(fc.oneof(fc.nat(900), fc.nat(30_000), fc.nat(70_000)), { minLength: 5, maxLength: 120, size: 'max' }),
      (limit, pauses) => {
        let ring: MinuteRing = [];
        let nowMs = START_MS;
        const passed: number[] = [];
        for (const pause of pauses) {
          nowMs += pause;
          ring = slide(ring, Math.floor(nowMs / 1000));
          if (totals(ring).held >= limit) {
            // The wait that it tells is enough, and not a second more than the rule needs.
            const waitUntilMs = leftAtMs(ring, 1) ?? Number.NaN;
            expect(waitUntilMs).toBeGreaterThan(nowMs);
            expect(waitUntilMs).toBeLessThanOrEqual(nowMs + 61_000);
            expect(totals(slide(ring, waitUntilMs / 1000)).held).toBeLessThan(limit);
            continue;
          }
          ring = book(ring, Math.floor(nowMs / 1000), { settled: 0, held: 1 });
          passed.push(nowMs);
        }
        for (const from of passed) {
          const within = passed.filter((at) => at >= from && at < from + 60_000);
          expect(within.length).toBeLessThanOrEqual(limit);
        }
        expect(ring.length).toBeLessThanOrEqual(61);
      },
    ),
    { numRuns: 500 },
  );
});

test('a second stands still while the clock is behind, and a clock far behind is believed', () => {
  expect(ledgerSecond(1000, 1_001_999)).toBe(1001);
  expect(ledgerSecond(1000, 700_000)).toBe(1000);
  expect(ledgerSecond(1000, 699_999)).toBe(699);
});

test('what is settled of a ring is stored exactly', () => {
  const ring = [
    { second: 1_800_000_000, settled: 0, held: 3 },
    { second: 1_800_000_059, settled: 9_000_000_000_000_000, held: 1 },
  ];
  const stored = encodeRing(ring);
  // As a store may hand it back: in the middle of a larger buffer.
  const shifted = new Uint8Array([1, 2, 3, ...stored]).subarray(3);
  expect(decodeRing(shifted)).toEqual([{ second: 1_800_000_059, settled: 9_000_000_000_000_000, held: 0 }]);
});
