// Rotation against f64, and what the KV write leaves in the arena: each row in its slot, as the format allows, and nothing anywhere else.
import { describe, expect, test } from 'vitest';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { dispatchOnce, download, testDevice, upload } from '../../test/support/gpu.ts';
import { randomOf } from '../../test/support/random.ts';
import type { KvShape } from '../attention/shape.ts';
import { KV_FORMATS, type KvFormat, kvBlockBytes } from '../kv/format.ts';
import { storeRow, turnedRow } from '../kv/reference.ts';
import { ROPE_LANES, ropeShader, ropeUnits } from './shader.ts';

const SHAPES: KvShape[] = [
  { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 },
  { heads: 4, kvHeads: 2, headDim: 80, ropeDim: 32 },
];
const SLOTS = [3, 16, 31, 70, 5];
const BLOCKS = 5;
const UNTOUCHED = 0x7e017e01;
const cases = KV_FORMATS.flatMap((format) => SHAPES.map((shape) => ({ format, shape, headDim: shape.headDim })));

/** Token t stands at position 3t + 1; frequencies as in a llama. */
function angleOf(token: number, pair: number, { ropeDim }: KvShape): number {
  return (3 * token + 1) * 10_000 ** ((-2 * pair) / ropeDim);
}

function rotatedHead(row: Float32Array, token: number, shape: KvShape): Float64Array {
  const out = Float64Array.from(row);
  for (let pair = 0; pair < shape.ropeDim / 2; pair++) {
    const [cos, sin] = [Math.cos(angleOf(token, pair, shape)), Math.sin(angleOf(token, pair, shape))];
    const [x, y] = [row[2 * pair] as number, row[2 * pair + 1] as number];
    out[2 * pair] = x * cos - y * sin;
    out[2 * pair + 1] = x * sin + y * cos;
  }
  return out;
}

async function run(format: KvFormat, shape: KvShape, qkv: Float32Array) {
  const { heads, kvHeads, headDim, ropeDim } = shape;
  const { device } = await testDevice();
  const pipeline = await new Pipelines(device).get('rope', () => ropeShader(shape, format));
  const { STORAGE, UNIFORM } = GPUBufferUsage;
  const rotation = Float32Array.from({ length: SLOTS.length * ropeDim }, (_, i) => {
    const angle = angleOf(Math.floor(i / ropeDim), Math.floor((i % ropeDim) / 2), shape);
    return i % 2 ? Math.sin(angle) : Math.cos(angle);
  });
  const before = new Uint32Array((BLOCKS * kvBlockBytes(format, kvHeads, headDim)) / 4).fill(UNTOUCHED);
  const [rows, arena] = [upload(device, qkv, STORAGE), upload(device, before, STORAGE)];
  const rest = [
    upload(device, Uint32Array.from(SLOTS), STORAGE),
    upload(device, rotation, STORAGE),
    upload(device, Uint32Array.of(SLOTS.length, 0, 0, 0), UNIFORM),
  ];
  const groups = Math.ceil((SLOTS.length * ropeUnits(shape, format)) / ROPE_LANES);
  dispatchOnce(device, pipeline, [rows, arena, ...rest], groups);
  return {
    rows: new Float32Array(await download(device, rows, qkv.byteLength)),
    arena: new Uint32Array(await download(device, arena)),
    width: (heads + 2 * kvHeads) * headDim,
  };
}

describe.each(cases)('$format, heads of $headDim dims', ({ format, shape }) => {
  const { heads, kvHeads, headDim } = shape;
  const random = randomOf(5);
  const qkv = Float32Array.from({ length: SLOTS.length * (heads + 2 * kvHeads) * headDim }, () => random() * 6 - 3);
  const head = (token: number, index: number): Float32Array => {
    const at = (token * (heads + 2 * kvHeads) + index) * headDim;
    return qkv.subarray(at, at + headDim);
  };

  test('q is rotated and scaled, and turned where k is', async () => {
    const { rows, width } = await run(format, shape, qkv);
    for (let token = 0; token < SLOTS.length; token++)
      for (let h = 0; h < heads; h++)
        for (const [i, value] of turnedRow(format, rotatedHead(head(token, h), token, shape)).entries())
          expect(rows[token * width + h * headDim + i]).toBeCloseTo(value / Math.sqrt(headDim), 5);
  });

  test('k is rotated, v is not, and both are stored in their slot alone', async () => {
    const { arena } = await run(format, shape, qkv);
    const expected = new Uint32Array(arena.length).fill(UNTOUCHED);
    for (const [token, slot] of SLOTS.entries())
      for (let which = 0; which < 2; which++)
        for (let h = 0; h < kvHeads; h++) {
          const raw = head(token, heads + which * kvHeads + h);
          const row = which ? raw : Float32Array.from(turnedRow(format, rotatedHead(raw, token, shape)));
          const plane = (Math.floor(slot / 16) * 2 + which) * kvHeads + h;
          storeRow(new DataView(expected.buffer), format, plane, slot % 16, row);
        }
    for (const [i, word] of expected.entries()) {
      const actual = arena[i] as number;
      if (actual !== word && !near(format, actual, word))
        expect.fail(`word ${i}: ${actual.toString(16)}, expected ${word.toString(16)}`);
    }
  });
});

/** Whether two words differ by rounding only: WGSL's division, and f32 products without fma, are free in the last bit. */
function near(format: KvFormat, a: number, b: number): boolean {
  if (b === UNTOUCHED) return false;
  const view = new DataView(new Uint32Array([a, b]).buffer);
  const close = (x: number, y: number, relative: number): boolean => Math.abs(x - y) <= relative * Math.abs(y) + 1e-6;
  if (close(view.getFloat32(0, true), view.getFloat32(4, true), 1e-6)) return true;
  const parts = format === 'f16' ? 2 : format === 'int8' ? 4 : format === 'int4' ? 8 : 0;
  for (let i = 0; i < parts; i++) {
    if (format === 'f16') {
      if (!close(view.getFloat16(2 * i, true), view.getFloat16(4 + 2 * i, true), 2 ** -10)) return false;
    } else {
      const bits = 32 / parts;
      const signed = (word: number): number => (word << (32 - bits * (i + 1))) >> (32 - bits);
      if (Math.abs(signed(a) - signed(b)) > 1) return false;
    }
  }
  return parts > 0;
}
