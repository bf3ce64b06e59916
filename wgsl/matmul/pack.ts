// From a tensor's rows as they stand in a GGUF file to the layout of layout.ts. Runs once per weight at load: plain loops over
// typed arrays. Source formats: ggml's block_q4_0 {f16 d; 16 bytes}, block_q4_1 {f16 d, m; 16 bytes}, block_q8_0 {f16 d; 32 i8}
// (ggml-common.h); byte i of a q4 block holds elements i (low nibble) and i + 16 (high).
import { LANE_GROUP, type MatrixLayout, PARTS, placeRow, type WeightKind } from './layout.ts';

export type SourceType = 'F32' | 'F16' | 'Q4_0' | 'Q4_1' | 'Q8_0';

export const KIND_OF: Record<SourceType, WeightKind> = { F32: 'f32', F16: 'f16', Q4_0: 'q4', Q4_1: 'q4', Q8_0: 'q8' };

const f32Cell = new Float32Array(1);
const u32Cell = new Uint32Array(f32Cell.buffer);

/** IEEE half to double. */
export function fromHalf(half: number): number {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const sign = half & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Double to IEEE half, ties to even; too large becomes infinity. */
export function toHalf(value: number): number {
  f32Cell[0] = value;
  const bits = u32Cell[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 255) - 112;
  const fraction = bits & 0x7fffff;
  if (exponent >= 31) return sign | 0x7c00 | (exponent === 143 && fraction ? 0x200 : 0);
  if (exponent <= 0) {
    if (exponent < -10) return sign;
    const full = fraction | 0x800000;
    const shift = 14 - exponent;
    const half = full >>> shift;
    const rest = full & ((1 << shift) - 1);
    const middle = 1 << (shift - 1);
    return sign | (half + (rest > middle || (rest === middle && half & 1) ? 1 : 0));
  }
  const half = (exponent << 10) | (fraction >>> 13);
  const rest = fraction & 0x1fff;
  return sign | (half + (rest > 0x1000 || (rest === 0x1000 && half & 1) ? 1 : 0));
}

/**
 * Packs rows [firstRow, firstRow + count) from `source` (whole rows, as in the file) into `target`, the u32 words of tiles from `firstTile` on.
 */
export function packRows(
  layout: MatrixLayout,
  type: SourceType,
  source: Uint8Array,
  firstRow: number,
  count: number,
  target: Uint32Array,
  firstTile = 0,
): void {
  const { blocks, windowBytes, scaleBytes, tileBytes } = layout;
  const parts = PARTS[layout.kind];
  const pack = PACKERS[type];
  const rowBytes = blocks * SOURCE_BLOCK_BYTES[type];
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  for (let index = 0; index < count; index++) {
    const { tile, lane, window } = placeRow(layout, firstRow + index);
    const group = Math.floor(lane / LANE_GROUP);
    const column = lane % LANE_GROUP;
    const tileWord = ((tile - firstTile) * tileBytes) / 4;
    const windowWord = tileWord + (window * windowBytes) / 4;
    const scaleWord = tileWord + (8 * windowBytes + (window >> 2) * scaleBytes) / 4 + (window & 3);
    for (let block = 0; block < blocks; block++) {
      const quant = windowWord + (((group * blocks + block) * parts * LANE_GROUP + column) << 2);
      const scale = scaleWord + (((group * blocks + block) * LANE_GROUP + column) << 2);
      pack(source, view, index * rowBytes + block * SOURCE_BLOCK_BYTES[type], target, quant, scale);
    }
  }
}

/** Bytes of 32 elements in the file. */
export const SOURCE_BLOCK_BYTES: Record<SourceType, number> = { F32: 128, F16: 64, Q4_0: 18, Q4_1: 20, Q8_0: 34 };

/** `quant`, `scale`: word indices; the next vec4 of the same block and lane is LANE_GROUP vec4 = 32 words further on. */
type Packer = (
  bytes: Uint8Array,
  view: DataView,
  at: number,
  target: Uint32Array,
  quant: number,
  scale: number,
) => void;

function packNibbles(bytes: Uint8Array, at: number, target: Uint32Array, quant: number): void {
  for (let word = 0; word < 4; word++) {
    let packed = 0;
    for (let pair = 0; pair < 4; pair++) {
      const element = 8 * word + 2 * pair;
      const low = element < 16 ? (bytes[at + element] as number) & 15 : (bytes[at + element - 16] as number) >> 4;
      const high = element < 16 ? (bytes[at + element + 1] as number) & 15 : (bytes[at + element - 15] as number) >> 4;
      packed |= (low << (4 * pair)) | (high << (4 * pair + 16));
    }
    target[quant + word] = packed;
  }
}

const PACKERS: Record<SourceType, Packer> = {
  Q4_0(bytes, view, at, target, quant, scale) {
    target[scale] = view.getUint16(at, true);
    packNibbles(bytes, at + 2, target, quant);
  },
  Q4_1(bytes, view, at, target, quant, scale) {
    const d = view.getUint16(at, true);
    // (q-8)*d + (m+8d): the sum is rounded to f16; it is small against m because m is near -8d for centred weights.
    target[scale] = d | (toHalf(fromHalf(view.getUint16(at + 2, true)) + 8 * fromHalf(d)) << 16);
    packNibbles(bytes, at + 4, target, quant);
  },
  Q8_0(bytes, view, at, target, quant, scale) {
    target[scale] = view.getUint16(at, true);
    for (let word = 0; word < 8; word++) {
      const from = at + 2 + 4 * word;
      // -128 never comes from a Q8_0 quantiser; held at -127 it can't overflow the 16-bit sums.
      const byte = (i: number): number => Math.max(((bytes[from + i] as number) << 24) >> 24, -127) + 128;
      target[quant + (word >> 2) * 32 + (word & 3)] = byte(0) | (byte(1) << 16) | (byte(2) << 8) | (byte(3) << 24);
    }
  },
  F16(_bytes, view, at, target, quant) {
    for (let word = 0; word < 16; word++)
      target[quant + (word >> 2) * 32 + (word & 3)] = view.getUint32(at + 4 * word, true);
  },
  F32(_bytes, view, at, target, quant) {
    for (let word = 0; word < 32; word++)
      target[quant + (word >> 2) * 32 + (word & 3)] = view.getUint32(at + 4 * word, true);
  },
};
