// Draws from one block never overlap, whatever their sizes, and none is given twice.
import { expect, test } from 'vitest';
import { randomPool } from './randomPool.ts';

test('no bytes are given twice, within a block, across blocks, or larger than one', () => {
  const random = randomPool();
  const seen = new Set<string>();
  let drawn = 0;
  for (let i = 0; i < 20_000; i++)
    for (const count of [6, 12, 16, 32]) {
      const bytes = random(count);
      expect(bytes.length).toBe(count);
      seen.add(Buffer.from(bytes.subarray(0, 6)).toString('hex'));
      drawn += 1;
    }
  expect(seen.size).toBe(drawn);
  expect(new Set(random(10_000)).size).toBe(256);
});
