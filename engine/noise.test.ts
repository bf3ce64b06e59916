import { describe, expect, it } from 'vitest';
import { type PhiloxCounter, type PhiloxKey, philox4x32, positionNoise, seedKey } from './noise.ts';

// Random123's kat_vectors, lines `philox4x32 10`.
const KNOWN_ANSWERS: [PhiloxCounter, PhiloxKey, number[]][] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

describe('noise', () => {
  it.each(KNOWN_ANSWERS)('Philox4x32-10 gives the published words for %j under %j', (counter, key, words) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });

  it('reads all 64 bits of a seed', () => {
    expect(seedKey('0')).toEqual([0, 0]);
    expect(seedKey('18446744073709551615')).toEqual([0xffffffff, 0xffffffff]);
    expect(seedKey('4294967298')).toEqual([2, 1]);
  });

  it.each(['', '-1', '1.5', '0x10', '18446744073709551616', '1e3'])('refuses the seed %j', (seed) => {
    expect(() => seedKey(seed)).toThrow(/unsigned 64-bit/);
  });

  it('depends on seed, choice and position, each alone', () => {
    const base = positionNoise(seedKey('7'), 0, 0);
    expect(positionNoise(seedKey('7'), 0, 0)).toEqual(base);
    expect(positionNoise(seedKey('8'), 0, 0)).not.toEqual(base);
    expect(positionNoise(seedKey('30064771072'), 0, 0)).not.toEqual(base);
    expect(positionNoise(seedKey('7'), 1, 0)).not.toEqual(base);
    expect(positionNoise(seedKey('7'), 0, 1)).not.toEqual(base);
  });

  it('is uniform: 64 cells of 64,000 draws stay within the 99.99 % chi-square bound', () => {
    const key = seedKey('20240607');
    const cells = new Array<number>(64).fill(0);
    for (let position = 0; position < 64_000; position++) cells[positionNoise(key, 3, position)[0] >>> 26]! += 1;
    const chiSquare = cells.reduce((sum, seen) => sum + (seen - 1000) ** 2 / 1000, 0);
    // 63 degrees of freedom: mean 63, 99.99 % quantile 114.8.
    expect(chiSquare).toBeLessThan(114.8);
  });

  it('has 64 random bits: the lowest one is set about half of the time', () => {
    const key = seedKey('1');
    let odd = 0;
    for (let position = 0; position < 4096; position++) odd += positionNoise(key, 0, position)[1] & 1;
    expect(Math.abs(odd - 2048)).toBeLessThan(200);
  });
});
