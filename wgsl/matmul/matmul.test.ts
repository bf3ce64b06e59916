// Every kind of weight and activation over a sweep of shapes, against plain f64; and every variant against the others, bit for bit.
import { describe, expect, test } from 'vitest';
import { dequantize } from '../../engine/model/dequantize.ts';
import { type MatmulCase, runMatmul, variantsOf } from '../../test/support/matmulRig.ts';
import { quantize } from '../../test/support/quantize.ts';
import { randomOf } from '../../test/support/random.ts';
import { fromHalf, type SourceType, toHalf } from './pack.ts';
import { matmulReference } from './reference.ts';

/** rows not of 8, several tiles, a token count that fills no group of four, one block, the shapes of a real layer. */
const SHAPES = [
  { rows: 8, cols: 32, tokens: 1 },
  { rows: 51, cols: 96, tokens: 3 },
  { rows: 576, cols: 576, tokens: 16 },
  { rows: 2000, cols: 576, tokens: 5 },
  { rows: 200, cols: 1536, tokens: 2 },
];

const TYPES: SourceType[] = ['F32', 'F16', 'Q4_0', 'Q4_1', 'Q8_0'];

interface Sample {
  source: Uint8Array;
  weights: Float32Array;
  x: Float32Array;
}

function sample({ type, rows, cols, tokens }: MatmulCase): Sample {
  const random = randomOf(rows * 7919 + cols);
  const values = Float32Array.from({ length: rows * cols }, () => (random() + random() + random() - 1.5) * 0.2);
  const source = quantize(type, values);
  const weights = new Float32Array(rows * cols);
  dequantize(type, source, weights);
  return { source, weights, x: Float32Array.from({ length: tokens * cols }, () => random() * 4 - 2) };
}

/** x as int8 activations stand for it: scale = max / 127 per block of 32. */
function rounded(x: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += 32) {
    const block = x.subarray(at, at + 32);
    const scale = Math.max(...block.map(Math.abs)) / 127;
    block.forEach((value, i) => {
      out[at + i] = scale ? Math.round(value / scale) * scale : 0;
    });
  }
  return out;
}

const cases: MatmulCase[] = [];
for (const type of TYPES)
  for (const activations of ['int8', 'f32'] as const)
    for (const shape of SHAPES)
      if (activations === 'f32' || !type.startsWith('F'))
        cases.push({ ...shape, type, activations, weights: 'uniform', broadcast: true });
for (const type of ['Q4_1', 'Q8_0'] as const)
  for (const weights of ['uniform', 'storage'] as const)
    cases.push({ rows: 51, cols: 96, tokens: 3, type, activations: 'int8', weights, broadcast: false });

describe('matrix kernel', () => {
  test.each(cases)(
    '$type × $activations $rows×$cols, $tokens tokens, $weights, broadcast $broadcast',
    async (given) => {
      const { source, weights, x } = sample(given);
      const variants = await variantsOf(given);
      const results: Float32Array[] = [];
      for (const variant of variants) results.push(await runMatmul(given, variant, source, x));
      const [one, four] = results as [Float32Array, Float32Array];
      expect(new Uint32Array(four.buffer), 'four columns give the bits of one').toEqual(new Uint32Array(one.buffer));

      const input = given.activations === 'int8' ? rounded(x) : x;
      const expected = matmulReference(weights, input, given.rows, given.cols, given.tokens);
      // Rounding differs by one step of a tie here and there; the sum of |w·x| scales what that can do.
      const scale = matmulReference(weights.map(Math.abs), input.map(Math.abs), given.rows, given.cols, given.tokens);
      const tolerance = given.activations === 'int8' ? 2e-4 : given.type === 'Q4_1' ? 3e-5 : 2e-6;
      one.forEach((value, i) => {
        const allowed = tolerance * (scale[i] as number) + 1e-7;
        if (!(Math.abs(value - (expected[i] as number)) <= allowed))
          expect.fail(`element ${i}: ${value}, expected ${expected[i]} ± ${allowed}`);
      });
    },
  );

  test('the same row and token have the same bits in any company', async () => {
    const given: MatmulCase = {
      rows: 64,
      cols: 576,
      tokens: 16,
      type: 'Q4_1',
      activations: 'int8',
      weights: 'uniform',
      broadcast: true,
    };
    const { source, x } = sample(given);
    const [single, quad] = await variantsOf(given);
    const together = await runMatmul(given, quad as NonNullable<typeof quad>, source, x);
    for (const token of [0, 3, 7, 15]) {
      const alone = { ...given, tokens: 1 };
      const part = x.slice(token * given.cols, (token + 1) * given.cols);
      const out = await runMatmul(alone, single as NonNullable<typeof single>, source, part);
      expect(out).toEqual(together.slice(token * given.rows, (token + 1) * given.rows));
    }
  });
});

test('halves survive the way there and back, all of them', () => {
  for (let half = 0; half < 0x7c00; half++) {
    expect(toHalf(fromHalf(half))).toBe(half);
    expect(toHalf(fromHalf(half | 0x8000))).toBe(half | 0x8000);
  }
});
