import { describe, expect, test } from 'vitest';
import { compared, fastest, MARGIN, median } from './fastest.ts';

const named = (seconds: Record<string, number>): Map<string, number> => new Map(Object.entries(seconds));

test('the median of an even number of values is the middle of the middle two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([9, 1, 5])).toBe(5);
});

describe('the choice', () => {
  test('a challenger within the margin leaves the rule its place, one beyond it does not', () => {
    expect(fastest(named({ rule: 100, other: 100 * (1 - MARGIN) + 0.01 }))).toBe('rule');
    expect(fastest(named({ rule: 100, other: 100 * (1 - MARGIN) - 0.01 }))).toBe('other');
  });

  test('of several beyond the margin the fastest is taken', () => {
    expect(fastest(named({ rule: 100, a: 80, b: 70, c: 75 }))).toBe('b');
  });

  test('a busy round falls on all candidates: what is as fast stays as fast', () => {
    const rounds = new Map([
      ['rule', [10, 50, 10, 90, 10]],
      ['same', [10, 50, 10, 90, 10]],
      ['slower', [12, 60, 12, 108, 12]],
    ]);
    const seconds = compared(rounds);
    expect(seconds.get('same')).toBe(10);
    expect(seconds.get('slower')).toBeCloseTo(12, 10);
    expect(fastest(seconds)).toBe('rule');
  });

  test('one lucky timing decides nothing', () => {
    const rounds = new Map([
      ['rule', [10, 10, 10, 10, 10]],
      ['lucky', [1, 10, 10, 10, 10]],
    ]);
    expect(fastest(compared(rounds))).toBe('rule');
  });
});
