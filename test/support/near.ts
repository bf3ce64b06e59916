// Numbers against exact ones, with a bound for each.
import { expect } from 'vitest';

/** Each element is the exact one but for `allowed`; 0 asks for the same value, whatever the sign of a zero. */
export function expectNear(
  actual: ArrayLike<number>,
  exact: ArrayLike<number>,
  allowed: (index: number) => number,
  name: string,
): void {
  expect(actual.length, name).toBe(exact.length);
  for (let i = 0; i < exact.length; i++)
    if (!(Math.abs(actual[i]! - exact[i]!) <= allowed(i)))
      expect.fail(`${name}, element ${i}: ${actual[i]}, expected ${exact[i]} ± ${allowed(i)}`);
}
