import { expect, it } from 'vitest';
import { randomOf } from '../../test/support/random.ts';
import { Numbering } from './numbering.ts';

it('numbers keys in order of first sight, as a Map would, whatever its size', () => {
  const random = randomOf(3);
  const numbering = new Numbering();
  const model = new Map<number, number>();
  for (let i = 0; i < 50_000; i++) {
    // Small ones that are near one another, large ones, and many that come again.
    const key = random() < 0.5 ? Math.floor(random() * 20_000) : Math.floor(random() * 2 ** 53);
    const expected = model.get(key) ?? model.size;
    model.set(key, expected);
    expect(numbering.number(key)).toBe(expected);
  }
  expect(numbering.size).toBe(model.size);
  for (const [key, number] of model) expect(numbering.number(key)).toBe(number);
});
