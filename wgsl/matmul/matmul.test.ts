// Every kind of weight and activation over a sweep of shapes, against plain f64; and every variant against the others, bit for bit.
import { describe, expect, test } from 'vitest';
import { dequantize } from '../../engine/model/dequantize.ts';
import { BLOCK_LAYOUT } from '../../engine/model/tensorTypes.ts';
import { TENSOR_TYPES } from '../../engine/model/types.ts';
import { testDevice } from '../../test/support/gpu.ts';
import { type MatmulCase, runMatmul, variantsOf } from '../../test/support/matmulRig.ts';
import { expectNear } from '../../test/support/near.ts';
import { quantize } from '../../test/support/quantize.ts';
import { randomOf } from '../../test/support/random.ts';
import { storedBlocks, valuesOf } from '../quantize/reference.ts';
import { hasScales, KINDS, TOKEN_GROUP } from './layout.ts';
import { KIND_OF } from './pack.ts';
import { matmulReference } from './reference.ts';
import { columnsFor, formsOf, manyRowsByRule, variantLabel } from './variant.ts';

/** rows not of 8, several tiles, a token count that fills no group of four, one block, the shapes of a real layer. */
const SHAPES = [
  { rows: 8, cols: 32, tokens: 1 },
  { rows: 51, cols: 96, tokens: 3 },
  { rows: 576, cols: 576, tokens: 16 },
  { rows: 2000, cols: 576, tokens: 5 },
  { rows: 200, cols: 1536, tokens: 2 },
];

/** The same for types in blocks of 256. */
const WIDE_SHAPES = [
  { rows: 8, cols: 256, tokens: 1 },
  { rows: 51, cols: 768, tokens: 3 },
  { rows: 576, cols: 512, tokens: 16 },
  { rows: 200, cols: 1536, tokens: 5 },
];

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

const cases: MatmulCase[] = [];
for (const type of TENSOR_TYPES)
  for (const activations of ['int8', 'f32'] as const) {
    if (activations === 'int8' && !hasScales(KIND_OF[type])) continue;
    const shapes = KINDS[KIND_OF[type]].span === 1 ? SHAPES : WIDE_SHAPES;
    for (const shape of shapes) cases.push({ ...shape, type, activations, weights: 'uniform', broadcast: true });
    // Of float products on storage weights one kind is tried: the compiler of software adapters takes many seconds for each.
    const storage = activations === 'int8' || type === 'F16' ? (['storage'] as const) : [];
    for (const weights of ['uniform', ...storage] as const)
      cases.push({
        ...(shapes[1] as (typeof SHAPES)[number]),
        type,
        activations,
        weights,
        broadcast: false,
        slices: 1,
      });
    if (storage.length > 0 && type !== 'F16')
      cases.push({ ...shapes[3]!, type, activations, weights: 'storage', broadcast: false });
  }

describe('matrix kernel', () => {
  test.each(cases)(
    '$type × $activations $rows×$cols, $tokens tokens, $weights, broadcast $broadcast, slices $slices',
    async (given) => {
      const { source, weights, x } = sample(given);
      // lavapipe's compiler takes seconds for each form that is made for a GPU.
      const variants = variantsOf(await testDevice(), given).filter(
        ({ columns }) => given.weights === 'uniform' || columns % 3 === 1,
      );
      const results: Float32Array[] = [];
      for (const variant of variants) results.push(await runMatmul(await testDevice(), given, variant, source, x));
      const [one = new Float32Array(0), ...others] = results;
      for (const [index, other] of others.entries())
        expect(new Uint32Array(other.buffer), `${variants[index + 1]!.columns} columns give the bits of one`).toEqual(
          new Uint32Array(one.buffer),
        );

      const input = valuesOf(given.activations, storedBlocks(given.activations, x));
      const expected = matmulReference(weights, input, given.rows, given.cols, given.tokens);
      // Rounding differs by one step of a tie here and there; the sum of |w·x| scales what that can do.
      const scale = matmulReference(weights.map(Math.abs), input.map(Math.abs), given.rows, given.cols, given.tokens);
      const tolerance = given.activations === 'int8' ? 2e-4 : given.type === 'Q4_1' ? 3e-5 : 2e-6;
      expectNear(one, expected, (i) => tolerance * scale[i]! + 1e-7, 'out');
    },
  );

  test.each(['Q4_0', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_0'] as const)(
    '%s: the largest sums that a block can have are exact',
    async (type) => {
      const given: MatmulCase = {
        ...{ rows: 16, cols: 256, tokens: 4, type, activations: 'int8', weights: 'uniform', broadcast: true },
      };
      const { source, x } = sample(given);
      const { elements, bytes: blockBytes } = BLOCK_LAYOUT[type];
      // Rows of least and greatest quants against activations of ±127, alike or alternating in sign.
      const header = { Q4_0: 2, Q8_0: 2, Q4_K: 16, Q5_K: 16, Q6_K: 0 }[type];
      const end = type === 'Q6_K' ? 192 : blockBytes;
      const perRow = given.cols / elements;
      for (let block = 0; block < given.rows * perRow; block++) {
        const even = Math.floor(block / perRow) % 2 === 0;
        const fill = type === 'Q8_0' ? (even ? 0x81 : 0x7f) : even ? 0x00 : 0xff;
        source.fill(fill, block * blockBytes + header, block * blockBytes + end);
      }
      x.forEach((_, i) => {
        const token = Math.floor(i / given.cols);
        x[i] = [1, -1, i & 1 ? 1 : -1, i & 2 ? 1 : -1][token] as number;
      });
      const weights = new Float32Array(given.rows * given.cols);
      dequantize(type, source, weights);
      const expected = matmulReference(weights, x, given.rows, given.cols, given.tokens);
      const largest = Math.max(...expected.map(Math.abs));
      for (const variant of variantsOf(await testDevice(), given)) {
        const actual = await runMatmul(await testDevice(), given, variant, source, x);
        actual.forEach((value, i) => {
          expect(Math.abs(value - (expected[i] as number))).toBeLessThanOrEqual(1e-5 * largest);
        });
      }
    },
  );

  test('all rows of a step in one dispatch have the bits of rows in groups', async () => {
    const given: MatmulCase = {
      ...{ type: 'Q4_1', activations: 'int8', rows: 120, cols: 288, tokens: 37, weights: 'storage', broadcast: false },
    };
    const { source, x } = sample(given);
    const gpu = await testDevice();
    const [alone] = variantsOf(gpu, { ...given, slices: 1 });
    const groups: number[] = [];
    for (let first = 0; first < given.tokens; first += TOKEN_GROUP) {
      const tokens = Math.min(TOKEN_GROUP, given.tokens - first);
      const rows = x.subarray(first * given.cols, (first + tokens) * given.cols);
      groups.push(...(await runMatmul(gpu, { ...given, tokens }, alone!, source, rows)));
    }
    const expected = new Uint32Array(Float32Array.from(groups).buffer);
    const [few] = variantsOf(gpu, given);
    const many = manyRowsByRule(few!, 15);
    expect(many.map(({ form }) => form.slices)).toEqual([8, 1]);
    for (const { form, columns } of [{ form: few!, columns: 2 as const }, ...many]) {
      const bits = new Uint32Array((await runMatmul(gpu, given, { ...few!, ...form, columns }, source, x)).buffer);
      expect(bits, variantLabel({ ...few!, ...form, columns })).toEqual(expected);
    }
  });

  /** Workgroups of hardware with a subgroup of this adapter's size, beside what a software adapter has. */
  test('every form that a tuner may choose gives the same bits', async () => {
    const given: MatmulCase = {
      ...{ type: 'Q4_1', activations: 'int8', rows: 1032, cols: 256, tokens: 7, weights: 'uniform', broadcast: true },
    };
    const { source, x } = sample(given);
    const gpu = await testDevice();
    const workgroupBytes = gpu.device.limits.maxComputeWorkgroupStorageSize;
    const adapter = { subgroupSize: gpu.subgroupSize, maxLanes: 256, workgroupBytes };
    const windows = formsOf('uniform', true, { ...adapter, software: true });
    const tiles = formsOf('storage', true, { ...adapter, software: false });
    expect([windows.length, tiles.filter(({ slices }) => slices === 1).length]).toEqual(
      gpu.subgroupSize ? [3, 8] : [2, 4],
    );
    expect(tiles.filter(({ slices }) => slices > 1).length).toBeGreaterThanOrEqual(2);
    let expected: Uint32Array | undefined;
    for (const [weights, forms] of [
      ['uniform', windows],
      ['storage', tiles],
    ] as const)
      for (const form of forms)
        for (const columns of [1, 4] as const) {
          const variant = { kind: KIND_OF[given.type], activations: given.activations, columns, ...form };
          const bits = new Uint32Array((await runMatmul(gpu, { ...given, weights }, variant, source, x)).buffer);
          expected ??= bits;
          expect(bits, variantLabel(variant)).toEqual(expected);
        }
  });

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
    const [single, , , quad] = variantsOf(await testDevice(), given);
    const together = await runMatmul(await testDevice(), given, quad as NonNullable<typeof quad>, source, x);
    for (const token of [0, 3, 7, 15]) {
      const alone = { ...given, tokens: 1 };
      const part = x.slice(token * given.cols, (token + 1) * given.cols);
      const out = await runMatmul(await testDevice(), alone, single as NonNullable<typeof single>, source, part);
      expect(out).toEqual(together.slice(token * given.rows, (token + 1) * given.rows));
    }
  });
});

test('rows in groups of the chosen columns stay within a group of 16, and cost the least', () => {
  const chosen = Array.from({ length: 16 }, (_, i) => columnsFor(i + 1));
  expect(chosen).toEqual([1, 2, 3, 4, 3, 3, 4, 4, 3, 4, 4, 4, 4, 4, 4, 4]);
  for (const [i, columns] of chosen.entries()) expect(Math.ceil((i + 1) / columns) * columns).toBeLessThanOrEqual(16);
});
