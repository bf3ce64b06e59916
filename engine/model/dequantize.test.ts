// Stored blocks to f32: worked by hand, against ggml's own reference on random blocks (test/golden/makeDequantized.py), and against the
// quantisers, whose rounding bounds the difference.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { quantize } from '../../test/support/quantize.ts';
import { dequantize } from './dequantize.ts';
import { BLOCK_LAYOUT } from './tensorTypes.ts';
import { TENSOR_TYPES, type TensorType } from './types.ts';

function floats(type: TensorType, bytes: number[], count: number): number[] {
  const out = new Float32Array(count);
  dequantize(type, Uint8Array.from(bytes), out);
  return [...out];
}

/** Half-precision 0.5, 2 and -1, little-endian. */
const HALF = [0x00, 0x38];
const TWO = [0x00, 0x40];
const MINUS_ONE = [0x00, 0xbc];

describe('by hand', () => {
  test('F32 and F16 are little-endian', () => {
    expect(floats('F32', [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], 2)).toEqual([1, -2]);
    expect(floats('F16', [...HALF, ...MINUS_ONE, 0x01, 0x00, 0xff, 0x7b], 4)).toEqual([0.5, -1, 2 ** -24, 65504]);
  });

  test('Q4_0: low nibbles first, centred at 8', () => {
    const nibbles = Array.from({ length: 16 }, (_, i) => i | ((15 - i) << 4));
    const expected = [
      ...Array.from({ length: 16 }, (_, i) => 0.5 * (i - 8)),
      ...Array.from({ length: 16 }, (_, i) => 0.5 * (7 - i)),
    ];
    expect(floats('Q4_0', [...HALF, ...nibbles], 32)).toEqual(expected);
  });

  test('Q4_1: scale and least value', () => {
    const nibbles = Array.from({ length: 16 }, (_, i) => i | (3 << 4));
    const expected = [...Array.from({ length: 16 }, (_, i) => 2 * i - 1), ...Array.from({ length: 16 }, () => 5)];
    expect(floats('Q4_1', [...TWO, ...MINUS_ONE, ...nibbles], 32)).toEqual(expected);
  });

  test('Q8_0: signed bytes; a second block has its own scale', () => {
    const block = (scale: number[]) => [...scale, ...Array.from({ length: 32 }, (_, i) => (i - 16) & 0xff)];
    const expected = [0.5, 2].flatMap((scale) => Array.from({ length: 32 }, (_, i) => scale * (i - 16)));
    expect(floats('Q8_0', [...block(HALF), ...block(TWO)], 64)).toEqual(expected);
  });
});

const golden: Partial<Record<TensorType, { bytes: string; values: string }>> = JSON.parse(
  readFileSync(new URL('../../test/golden/dequantized.json', import.meta.url), 'utf8'),
);

test.each(TENSOR_TYPES.filter((type) => type !== 'F32' && type !== 'F16'))('%s: the bits of the reference', (type) => {
  const { bytes, values } = golden[type]!;
  const expected = Buffer.from(values, 'base64');
  const out = new Float32Array(expected.length / 4);
  dequantize(type, Buffer.from(bytes, 'base64'), out);
  expect(Buffer.from(out.buffer).equals(expected), `${out.slice(0, 8)}`).toBe(true);
});

/** Largest difference in units of the block's largest magnitude: half a step, and the rounding of scales. */
const WORST: Record<TensorType, number> = {
  F32: 0,
  F16: 2 ** -11,
  BF16: 2 ** -8,
  Q4_0: 1 / 8 + 2e-3,
  Q4_1: 1 / 15 + 2e-3,
  Q8_0: 0.5 / 127 + 1e-3,
  Q4_K: 1 / 15 + 2.5 / 63,
  Q5_K: 1 / 31 + 2.5 / 63,
  Q6_K: 1 / 32 + 1 / 127,
};

test.each(TENSOR_TYPES)('%s: what was quantised comes back within its rounding', (type) => {
  const values = Float32Array.from(
    { length: 4096 },
    (_, i) => Math.sin(i * 12.9898) * 10 ** ((Math.floor(i / 32) % 5) - 2),
  );
  const back = new Float32Array(values.length);
  dequantize(type, quantize(type, values), back);
  const size = Math.max(32, BLOCK_LAYOUT[type].elements);
  for (let block = 0; block < values.length; block += size) {
    const largest = Math.max(...values.subarray(block, block + size).map(Math.abs));
    for (let i = block; i < block + size; i++)
      expect(Math.abs(back[i]! - values[i]!)).toBeLessThanOrEqual(largest * WORST[type]);
  }
});
