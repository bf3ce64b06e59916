// The guess at when holds make room, as a table: two of 40 each that began 3 and 1 seconds ago, under a limit of 100 with 10 settled.
import { expect, test } from 'vitest';
import { waitForHoldsMs } from './retryAfter.ts';

const NOW = 1_000_000;
const LIMIT = { limit: 100, settled: 10, held: 80 };
const hold = (ageMs: number, deadlineMs = NOW + 60_000) => ({ amount: 40, reservedAtMs: NOW - ageMs, deadlineMs });

test.each([
  ['the older one makes room enough', 50, 5000, [hold(3000), hold(1000)], 2000],
  ['it takes both', 51, 5000, [hold(3000), hold(1000)], 4000],
  ['… in any order', 51, 5000, [hold(1000), hold(3000)], 4000],
  ['an overdue one may end at any moment', 50, 1000, [hold(3000), hold(1000)], 250],
  ['none runs past its deadline', 51, 5000, [hold(3000), hold(1000, NOW + 2500)], 2500],
  ['more than all of them hold: as long as a request takes', 95, 5000, [hold(3000), hold(1000)], 5000],
  ['nobody runs that is known of', 50, 0, [], 250],
])('%s', (_, needed, meanMs, holds, waitMs) => {
  expect(waitForHoldsMs(LIMIT, needed, holds, meanMs, NOW)).toBe(waitMs);
});
