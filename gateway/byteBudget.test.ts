// Bytes that are shared: never more than there are, given back once, and not lost with a request that was destroyed.
import { expect, test } from 'vitest';
import { ByteBudget } from './byteBudget.ts';

test('shares take until nothing is left, and give back all that they took, once', () => {
  const budget = new ByteBudget(10);
  const [one, other] = [budget.share(0, 100), budget.share(0, 100)];
  expect([one.take(4), other.take(6), one.take(1)]).toEqual([true, true, false]);
  one.release();
  one.release();
  expect([budget.taken, one.take(1), other.take(4)]).toEqual([6, false, true]);
});

test('a share whose holder was destroyed is free once its time is over', () => {
  const budget = new ByteBudget(10);
  budget.share(0, 100).take(10);
  expect(budget.share(99, 200).take(1)).toBe(false);
  expect(budget.share(100, 200).take(10)).toBe(true);
});
