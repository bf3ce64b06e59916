// Rows as activations of the next matrix: every source and format over a sweep of widths and numbers of tokens, against the definition, with nothing
// written beyond the last token.
import { expect, test } from 'vitest';
import { expectActivations } from '../../test/support/activations.ts';
import { testDevice } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import { prepareQuantize, runRows } from '../../test/support/rowKernels.ts';
import { quantizeReference, storedBlocks, storedWords, valuesOf } from './reference.ts';
import { type QuantizeVariant, sourceWidth } from './shader.ts';

const UNTOUCHED = 0x7fc0_0001;
/** A block, less and more than a workgroup's lanes, and the widths of SmolLM2's layers. */
const WIDTHS = [32, 96, 576, 1536, 2080];
const TOKENS = [1, 2, 7, 33, 70];
/** exp is within 3 + 2|x| ulp in WGSL; the largest |x| below is 40. The sum, the quotient and the product are off by 5 more. */
const GATED_ERROR = (3 + 2 * 40 + 5) * 2 ** -23;
const VARIANTS: QuantizeVariant[] = [
  { source: 'plain', format: 'int8' },
  { source: 'plain', format: 'f32' },
  { source: 'gated', format: 'int8' },
  { source: 'gated', format: 'f32' },
];

async function run(variant: QuantizeVariant, width: number, tokens: number, rows: Float32Array<ArrayBuffer>) {
  const gpu = await testDevice();
  const activations = new Uint32Array((tokens + 1) * (width / 32) * storedWords(variant.format)).fill(UNTOUCHED);
  const given = { ...variant, width, tokens, rows, activations };
  return (await runRows(gpu, await prepareQuantize(gpu, given))).activations;
}

test.each(VARIANTS)('$source rows as $format', async (variant) => {
  const { source, format } = variant;
  const relative = source === 'plain' ? 0 : GATED_ERROR;
  for (const width of WIDTHS)
    for (const tokens of TOKENS) {
      const random = randomOf(width * 100 + tokens);
      const stride = sourceWidth(variant, width);
      const rows = Float32Array.from({ length: tokens * stride }, () => (random() * 2 - 1) * 40 ** random());
      rows.fill(0, 0, 32);
      const words = await run(variant, width, tokens, rows);
      const perToken = (width / 32) * storedWords(format);
      for (let token = 0; token < tokens; token++) {
        const exact = quantizeReference(source, rows.subarray(token * stride, (token + 1) * stride));
        const own = words.subarray(token * perToken, (token + 1) * perToken);
        expectActivations(format, own, exact, relative, `seed ${width * 100 + tokens}, token ${token}`);
      }
      expect(new Set(words.subarray(tokens * perToken)), 'beyond the last token').toEqual(new Set([UNTOUCHED]));
    }
});

/** Quotients of these are ties between integers, and the division is exact: nothing is left to a driver. */
test('ties go to the even integer, and whole multiples of the scale stay what they are', async () => {
  const rows = Float32Array.from({ length: 64 }, (_, i) =>
    i < 32 ? [127, 0.5, -0.5, 1.5, -1.5, 2.5][i % 6]! : i - 95,
  );
  rows[63] = -127;
  const words = await run({ source: 'plain', format: 'int8' }, 64, 1, rows);
  const stored = words.subarray(0, 40);
  expect(stored).toEqual(storedBlocks('int8', rows));
  expect([...valuesOf('int8', stored)].slice(0, 6)).toEqual([127, 0, 0, 2, -2, 2]);
  expect(valuesOf('int8', stored).subarray(32)).toEqual(rows.subarray(32));
});

test.each([2 ** -100, 1e-36, 3e-38, 1e-44])('a block of nothing larger than %d is zeros, not noise', async (peak) => {
  const rows = Float32Array.from({ length: 32 }, (_, i) => (i % 3 ? peak : 0));
  const words = await run({ source: 'plain', format: 'int8' }, 32, 1, rows);
  expectActivations('int8', words.subarray(0, 20), Float64Array.from(rows), 0, `peak ${peak}`);
});
