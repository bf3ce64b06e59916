import { expect, it } from 'vitest';
import { CircuitBreaker } from './circuitBreaker.ts';

/** Attempts within `untilMs`, one per 100 ms where it is closed, all failing; the times of the attempts. */
function failing(breaker: CircuitBreaker, untilMs: number): { attempts: number[]; told: number } {
  const attempts: number[] = [];
  let told = 0;
  for (let nowMs = 0; nowMs < untilMs; nowMs += 100)
    if (!breaker.isOpen(nowMs)) {
      attempts.push(nowMs);
      if (breaker.failed(nowMs)) told += 1;
    }
  return { attempts, told };
}

it('opens at the third failure in a row, then tries once per pause that doubles, and is told once', () => {
  const { attempts, told } = failing(new CircuitBreaker(), 20_000);
  expect(attempts).toEqual([0, 100, 200, 1200, 3200, 7200, 15_200]);
  expect(told).toBe(1);
});

it('never pauses longer than five minutes', () => {
  const { attempts } = failing(new CircuitBreaker(), 4 * 3_600_000);
  const pauses = attempts.slice(1).map((at, i) => at - (attempts[i] ?? 0));
  expect(Math.max(...pauses)).toBe(300_000);
});

it('a success between failures closes it, and a new row of failures is told again', () => {
  const breaker = new CircuitBreaker();
  for (let i = 0; i < 10; i++) {
    breaker.failed(i);
    breaker.failed(i);
    breaker.succeeded();
  }
  expect(breaker.isOpen(10)).toBe(false);
  expect([breaker.failed(10), breaker.failed(10), breaker.failed(10)]).toEqual([false, false, true]);
});

it('a clock that is set back does not keep it open', () => {
  const breaker = new CircuitBreaker();
  for (let i = 0; i < 3; i++) breaker.failed(1e12 + i);
  expect([breaker.isOpen(1e12 + 500), breaker.isOpen(1e12 - 3_600_000)]).toEqual([true, false]);
});
