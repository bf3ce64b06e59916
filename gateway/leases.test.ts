// Places that are taken and given back, or that fall free when their time is over.
import { expect, test } from 'vitest';
import { Leases } from './leases.ts';

test('a lease counts until it is given back, and giving it back again changes nothing', () => {
  const leases = new Leases();
  const first = leases.take(100);
  leases.take(100);
  expect(leases.count(0)).toBe(2);
  first();
  first();
  expect(leases.count(0)).toBe(1);
});

test('a lease whose holder was destroyed counts until its time is over, not longer', () => {
  const leases = new Leases();
  leases.take(100);
  leases.take(110);
  expect([99, 100, 110].map((nowMs) => leases.count(nowMs))).toEqual([2, 1, 0]);
});
