// Rotation and the KV write over heads, formats and numbers of tokens, against the definition: q in place; k and v each in its slot as the format
// allows, and nothing anywhere else. Bounds are those of f32 products and sums, and of WGSL's division.
import { describe, expect, test } from 'vitest';
import { testDevice } from '../../test/support/gpu.ts';
import { expectNear } from '../../test/support/near.ts';
import { randomOf } from '../../test/support/random.ts';
import { prepareRope, runRows } from '../../test/support/rowKernels.ts';
import type { KvShape } from '../attention/shape.ts';
import { BLOCK_SLOTS, CHUNK, KV_FORMATS, type KvFormat, kvBlockBytes, kvLayout } from '../kv/format.ts';
import { hadamardSize, turnsKeys } from '../kv/hadamard.ts';
import { storeRow } from '../kv/reference.ts';
import { LEAST_PEAK } from '../quantize/storeBlock.ts';
import { ropeReference } from './reference.ts';

/** SmolLM2's heads, heads of which a part is rotated and turned, as many heads of k and v as of q, and wide ones. */
const SHAPES: KvShape[] = [
  { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 },
  { heads: 4, kvHeads: 2, headDim: 80, ropeDim: 32 },
  { heads: 2, kvHeads: 2, headDim: 32, ropeDim: 32 },
  { heads: 2, kvHeads: 1, headDim: 128, ropeDim: 128 },
];
const TOKENS = [1, 5, 17, 70];
const BLOCKS = 6;
const UNTOUCHED = 0x7e017e01;
/** Half an ulp of f32; the largest error of WGSL's division, 2.5 ulp. */
const HALF_ULP = 2 ** -24;
const DIVISION = 2 ** -21;
/** f32 goes the way of f16, int8 that of int4 without turning: two shapes each, for the compiler takes a second for one. */
const cases = KV_FORMATS.flatMap((format) =>
  SHAPES.slice(0, format === 'f32' || format === 'int8' ? 2 : undefined).map((shape) => ({
    format,
    shape,
    name: `${shape.heads} heads over ${shape.kvHeads} of ${shape.headDim}`,
  })),
);

/** Token t stands at position 3t + 1, with frequencies as in a llama. */
function rotationOf(tokens: number, ropeDim: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: tokens * ropeDim }, (_, i) => {
    const angle = (3 * Math.floor(i / ropeDim) + 1) * 10_000 ** (-2 * (Math.floor((i % ropeDim) / 2) / ropeDim));
    return i % 2 ? Math.sin(angle) : Math.cos(angle);
  });
}

/** Scattered over the blocks, no two alike. */
const slotsOf = (tokens: number): Uint32Array<ArrayBuffer> =>
  Uint32Array.from({ length: tokens }, (_, t) => (37 * t + 3) % (BLOCKS * BLOCK_SLOTS));

describe.each(cases)('$format, $name dims', ({ format, shape }) => {
  const { heads, kvHeads, headDim, ropeDim } = shape;
  const all = heads + 2 * kvHeads;

  test.each(TOKENS)('%i tokens: q rotated and scaled, k rotated, v as it is, in their slots alone', async (tokens) => {
    const random = randomOf(tokens);
    const qkv = Float32Array.from({ length: tokens * all * headDim }, () => random() * 6 - 3);
    // The last token's last head of v: zeros, one dim that is beyond what a half can hold, or all of them too small to divide by.
    qkv.fill(tokens === 17 ? 1e-36 : 0, qkv.length - headDim);
    if (tokens === 5) qkv[qkv.length - 2] = 1e6;
    const [rotation, slots] = [rotationOf(tokens, ropeDim), slotsOf(tokens)];
    const before = new Uint32Array((BLOCKS * kvBlockBytes(format, kvHeads, headDim)) / 4).fill(UNTOUCHED);
    const given = { shape, format, qkv, slots, rotation, arena: before };
    const gpu = await testDevice();
    const { qkv: after, arena } = await runRows(gpu, await prepareRope(gpu, given));
    const rows = new Float32Array(after.buffer);
    const written = before.slice();
    for (let token = 0; token < tokens; token++) {
      const own = qkv.subarray(token * all * headDim, (token + 1) * all * headDim);
      const turn = rotation.subarray(token * ropeDim, (token + 1) * ropeDim);
      for (let head = 0; head < all; head++) {
        const name = `seed ${tokens}, token ${token}, head ${head}`;
        const row = ropeReference(shape, format, own, turn, head);
        const error = errorOf(format, shape, own, head);
        const at = (token * all + head) * headDim;
        if (head < heads) {
          expectNear(rows.subarray(at, at + headDim), row, () => error / Math.sqrt(headDim), name);
          continue;
        }
        expect(rows.subarray(at, at + headDim), `${name} in qkv`).toEqual(qkv.subarray(at, at + headDim));
        const plane = Math.floor(slots[token]! / BLOCK_SLOTS) * 2 * kvHeads + head - heads;
        const slot = slots[token]! % BLOCK_SLOTS;
        storeRow(new DataView(written.buffer), format, plane, slot, Float32Array.from(row));
        for (const [of, by] of [
          ['kernel', arena],
          ['reference', written],
        ] as const)
          expectStored({ arena: new DataView(by.buffer), format, plane, slot }, row, error, `${name}, ${of}`);
      }
    }
    const strays = arena.findIndex((word, i) => (written[i] === UNTOUCHED) !== (word === UNTOUCHED));
    expect(strays, 'first word that is written where none should be, or is not').toBe(-1);
  });
});

/** How far off a dim of q (before it is scaled) or k may be in f32; v is exact. Turned, a dim is a sum over the dims that are mixed. */
function errorOf(format: KvFormat, shape: KvShape, qkv: Float32Array, head: number): number {
  if (head >= shape.heads + shape.kvHeads) return 0;
  const row = qkv.subarray(head * shape.headDim, (head + 1) * shape.headDim).map(Math.abs);
  // Two products, a sum, the scale as f32 and the product with it.
  if (!turnsKeys(format)) return 5 * HALF_ULP * 2 * Math.max(...row);
  const size = hadamardSize(shape.headDim);
  const steps = 5 + Math.log2(size) + 2;
  return steps * HALF_ULP * Math.sqrt(2) * (row.reduce((sum, value) => sum + value, 0) / Math.sqrt(size));
}

/** What stands in the slot is `row`, each dim of it known up to `error`, rounded as the format has it. */
function expectStored(
  { arena, format, plane, slot }: { arena: DataView; format: KvFormat; plane: number; slot: number },
  row: Float64Array,
  error: number,
  name: string,
): void {
  const { bytes, planeElements, rowElements, most } = kvLayout(format, row.length);
  const at = (plane * planeElements + slot * rowElements) * bytes;
  const dims = (read: (i: number) => number): number[] => Array.from(row, (_, i) => read(i));
  if (format === 'f32') {
    expectNear(
      dims((i) => arena.getFloat32(at + 4 * i, true)),
      row,
      () => error,
      name,
    );
  } else if (format === 'f16') {
    const held = row.map((value) => Math.max(-65504, Math.min(65504, value)));
    const stored = dims((i) => arena.getFloat16(at + 2 * i, true));
    expectNear(stored, held, (i) => error + 2 ** -11 * Math.abs(held[i]!) + 2 ** -25, name);
  } else {
    const peak = Math.max(...row.map(Math.abs));
    const scale = arena.getFloat32((plane * planeElements + BLOCK_SLOTS * rowElements) * bytes + 4 * slot, true);
    expectNear([scale], [peak / most], () => (error + DIVISION * peak) / most + 2 ** -126, `${name}: scale`);
    const bits = (bytes * 8) / CHUNK;
    const levels = dims((i) => {
      const bit = i * bits;
      return (arena.getUint8(at + (bit >> 3)) << (32 - bits - (bit & 7))) >> (32 - bits);
    });
    const quotients = row.map((value) => (peak > LEAST_PEAK ? (most * value) / peak : 0));
    const slack = peak > LEAST_PEAK ? most * (2 * (error / peak) + DIVISION) : 0;
    expectNear(levels, quotients, () => 0.5 + slack, `${name}: levels`);
  }
}
