// The paged kernels against plain attention, over shapes, formats and contexts at every kind of border; and against one another, bit for
// bit: rows alone or in tiles, wherever a chunk began, through the subgroup or through workgroup memory.
import { describe, expect, test } from 'vitest';
import { singleVariants, tileVariants } from '../../engine/llama/attentionVariants.ts';
import { type Asked, attentionScene, itemsOf, runAttention } from '../../test/support/attentionRig.ts';
import { testDevice } from '../../test/support/gpu.ts';
import { KV_FORMATS, type KvFormat } from '../kv/format.ts';
import { attentionReference } from './reference.ts';
import type { AttentionVariant } from './shader.ts';
import { type KvShape, queryRows, unitsOf } from './shape.ts';

/** GQA groups of 1, 2, 3, 4 and 8; heads of one and of two spans, the last of which isn't full. */
const SHAPES: KvShape[] = [
  { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 },
  { heads: 8, kvHeads: 1, headDim: 80, ropeDim: 80 },
  { heads: 4, kvHeads: 2, headDim: 96, ropeDim: 96 },
  { heads: 2, kvHeads: 2, headDim: 128, ropeDim: 128 },
  { heads: 8, kvHeads: 2, headDim: 32, ropeDim: 32 },
];
interface Case {
  format: KvFormat;
  shape: KvShape;
  /** Shown by the test's name. */
  name: string;
}
const nameOf = ({ heads, kvHeads, headDim }: KvShape): string => `${heads} heads over ${kvHeads} of ${headDim} dims`;
const CASES: Case[] = [
  ...SHAPES.map((shape): Case => ({ format: 'f16', shape, name: nameOf(shape) })),
  ...KV_FORMATS.filter((format) => format !== 'f16').flatMap((format): Case[] =>
    SHAPES.slice(0, 2).map((shape) => ({ format, shape, name: nameOf(shape) })),
  ),
];
/** Single rows around a lane's, a tile's and a split's end; chunks that begin at 0, within a tile, and before a split's end. */
const ASKED: Asked[] = [
  ...[1, 7, 8, 9, 16, 17, 100, 512, 513].map((positions) => ({ positions, rows: 1 })),
  { positions: 11, rows: 11 },
  { positions: 45, rows: 16 },
  { positions: 518, rows: 13 },
  { positions: 1030, rows: 3 },
];

const bits = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer);

describe.each(CASES)('$format, $name', ({ format, shape }) => {
  const { heads, headDim } = shape;
  const width = heads * headDim;
  const scene = attentionScene(shape, format, ASKED, 77);
  /** The engine's own choice for this adapter. */
  const single = async (): Promise<AttentionVariant> => {
    const units = unitsOf(shape, (await testDevice()).subgroupSize);
    return { format, rows: 1, exchange: units ? 'subgroup' : 'workgroup', units: units ?? 1, splits: 'within' };
  };

  test('row by row it is attention', async () => {
    const actual = await runAttention(scene, await single(), itemsOf(scene, 1));
    let token = 0;
    for (const [i, { positions, rows }] of ASKED.entries())
      for (let position = positions - rows; position < positions; position++, token++) {
        const at = token * (heads + 2 * shape.kvHeads) * headDim;
        const [k, v] = [scene.k[i] as Float32Array, scene.v[i] as Float32Array];
        const expected = attentionReference(scene.qkv.subarray(at, at + width), k, v, shape, position + 1);
        for (const [j, value] of expected.entries()) {
          const given = actual[token * width + j] as number;
          if (!(Math.abs(given - value) < 2e-5))
            expect.fail(`position ${position} of ${positions}, ${j}: ${given}, expected ${value}`);
        }
      }
  });

  test('any variant, any cut: the same bits', async () => {
    const own = await single();
    const expected = bits(await runAttention(scene, own, itemsOf(scene, 1)));
    const variants: AttentionVariant[] = [{ ...own, rows: queryRows(shape, await testDevice()) }];
    variants.push({ ...own, splits: 'apart' });
    // What adapters without subgroups of a fixed size take. lavapipe's compiler is slow on barriers: not for every shape.
    if (format === 'f16') variants.push({ ...own, exchange: 'workgroup', units: 2 });
    if (shape === SHAPES[0] || (format === 'f16' && shape.headDim % 64))
      variants.push({ ...own, exchange: 'spread', units: 24 });
    // What a tuner may choose on hardware with a subgroup of this adapter's size.
    if (shape === SHAPES[0]) variants.push({ ...own, rows: 2, exchange: 'workgroup', units: 4 });
    if (shape === SHAPES[0] && format === 'f16') {
      const { subgroupSize, device } = await testDevice();
      const workgroupBytes = device.limits.maxComputeWorkgroupStorageSize;
      const hardware = { software: false, subgroupSize, maxLanes: 256, workgroupBytes };
      variants.push(...tileVariants(shape, format, hardware).filter(({ exchange }) => exchange === 'subgroup'));
      variants.push(
        ...singleVariants(shape, format, hardware, null).filter(
          ({ units, exchange, splits }) => units === 1 || (exchange === 'spread' && units === 24 && splits === 'apart'),
        ),
      );
    }
    for (const variant of variants)
      for (const first of new Set([variant.rows, 1])) {
        const actual = bits(await runAttention(scene, variant, itemsOf(scene, variant.rows, first)));
        expect(actual, `${JSON.stringify(variant)}, first chunk of ${first}`).toEqual(expected);
      }
  });
});
