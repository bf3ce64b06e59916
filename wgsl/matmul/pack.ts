// From a tensor's rows as they stand in a GGUF file to the layout of layout.ts. Runs once per weight at load, so each format has one loop
// over a row, in 16-bit words, because every format's blocks are whole ones: a word holds the same field of two neighbours, which is a pair of
// layout.ts. Source formats: ggml-common.h's block_q4_0, q4_1, q8_0, q4_K, q5_K and q6_K; engine/model/dequantize.ts has their drawings.
import { KINDS, LANE_GROUP, type MatrixLayout, placeRow, ROWS_PER_LANE, type WeightKind } from './layout.ts';
import { nibbles, type Packer, STEP } from './packer.ts';
import { K_PACKERS } from './packK.ts';

export type SourceType = 'F32' | 'F16' | 'BF16' | 'Q4_0' | 'Q4_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

export const KIND_OF: Record<SourceType, WeightKind> = {
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  Q4_0: 'q4',
  Q4_1: 'q4',
  Q8_0: 'q8',
  Q4_K: 'q4k',
  Q5_K: 'q5k',
  Q6_K: 'q6k',
};

/** Bytes of a span of the type's kind in the file: 32 elements, or 256 for the k kinds. */
export const SOURCE_SPAN_BYTES: Record<SourceType, number> = {
  ...{ F32: 128, F16: 64, BF16: 64, Q4_0: 18, Q4_1: 20, Q8_0: 34, Q4_K: 144, Q5_K: 176, Q6_K: 210 },
};

/** Bytes of a row in the file. */
export const sourceRowBytes = (layout: MatrixLayout, type: SourceType): number =>
  (layout.blocks / KINDS[layout.kind].span) * SOURCE_SPAN_BYTES[type];

/** Which rows of a matrix a tensor's are: `perLane` in each lane, from window `window` on. */
export interface Spread {
  perLane: 4 | 8;
  window: 0 | 4;
}

/** One under another; and two tensors of as many rows, four of each in a lane. */
export const STACKED: Spread = { perLane: ROWS_PER_LANE, window: 0 };
export const INTERLEAVED: readonly [Spread, Spread] = [
  { perLane: 4, window: 0 },
  { perLane: 4, window: 4 },
];

/**
 * Packs `count` rows from `source` (whole rows, as in the file, at an even offset in its buffer) into `target`, the u32 words of the layout's tiles,
 * as rows from `firstRow` on of those that `spread` leaves to the tensor.
 */
export function packRows(
  layout: MatrixLayout,
  type: SourceType,
  source: Uint8Array,
  firstRow: number,
  count: number,
  target: Uint32Array,
  { perLane, window: firstWindow }: Spread = STACKED,
): void {
  const { windowBytes, scaleBytes, tileBytes } = layout;
  const { span, quantParts, scaleParts } = KINDS[layout.kind];
  const spans = layout.blocks / span;
  const pack = PACKERS[type];
  const rowHalves = sourceRowBytes(layout, type) / 2;
  const halves = new Uint16Array(source.buffer, source.byteOffset, source.byteLength >> 1);
  for (let index = 0; index < count; index++) {
    const own = firstRow + index;
    const row = Math.floor(own / perLane) * ROWS_PER_LANE + firstWindow + (own % perLane);
    const { tile, lane, window } = placeRow(layout, row);
    const group = Math.floor(lane / LANE_GROUP) * spans * LANE_GROUP;
    const column = lane % LANE_GROUP;
    const tileWord = (tile * tileBytes) / 4;
    const quant = tileWord + (window * windowBytes) / 4 + (group * quantParts + column) * 4;
    const scales = tileWord + (8 * windowBytes + (window >> 2) * scaleBytes) / 4 + (window & 3);
    pack(halves, index * rowHalves, spans, target, quant, scales + (group * scaleParts + column) * 4);
  }
}

/** Elements 0..15 are the low nibbles of 16 bytes, 16..31 the high ones. */
function packQ4(halves: Uint16Array, at: number, target: Uint32Array, quant: number): void {
  target[quant] = nibbles(halves, at, 0);
  target[quant + 1] = nibbles(halves, at + 4, 0);
  target[quant + 2] = nibbles(halves, at, 4);
  target[quant + 3] = nibbles(halves, at + 4, 4);
}

/** `words` 32-bit words a block, as they are. */
const copyWords =
  (words: number): Packer =>
  (halves, at, spans, target, quant) => {
    for (let word = 0; word < spans * words; word++)
      target[quant + (word >> 2) * STEP + (word & 3)] = halves[at + 2 * word]! | (halves[at + 2 * word + 1]! << 16);
  };

const PACKERS: Record<SourceType, Packer> = {
  ...K_PACKERS,
  F32: copyWords(32),
  F16: copyWords(16),
  BF16: copyWords(16),
  Q4_0(halves, at, spans, target, quant, scale) {
    for (let block = 0; block < spans; block++) {
      const from = at + 9 * block;
      target[scale + block * STEP] = halves[from]!;
      packQ4(halves, from + 1, target, quant + block * STEP);
    }
  },
  Q4_1(halves, at, spans, target, quant, scale) {
    const floats = new Float16Array(halves.buffer, halves.byteOffset, halves.length);
    const sum = new Float16Array(1);
    const sumBits = new Uint16Array(sum.buffer);
    for (let block = 0; block < spans; block++) {
      const from = at + 10 * block;
      // (q-8)*d + (m+8d): the sum is rounded to f16; it is small against m because m is near -8d for centred weights.
      sum[0] = Math.fround(floats[from + 1]! + 8 * floats[from]!);
      target[scale + block * STEP] = halves[from]! | (sumBits[0]! << 16);
      packQ4(halves, from + 2, target, quant + block * STEP);
    }
  },
  Q8_0(halves, at, spans, target, quant, scale) {
    for (let block = 0; block < spans; block++) {
      const from = at + 17 * block;
      target[scale + block * STEP] = halves[from]!;
      for (let word = 0; word < 8; word++) {
        const a = halves[from + 1 + 2 * word]! ^ 0x8080;
        const b = halves[from + 2 + 2 * word]! ^ 0x8080;
        const packed = (a & 255) | ((a & 0xff00) << 8) | ((b & 255) << 8) | ((b & 0xff00) << 16);
        target[quant + (2 * block + (word >> 2)) * STEP + (word & 3)] = withoutZeroBytes(packed);
      }
    }
  },
};

/** A byte of 0 stands for -128, which no Q8_0 quantiser writes: held at -127 it can't overflow the 16-bit sums. */
function withoutZeroBytes(word: number): number {
  if (((word - 0x01010101) & ~word & 0x80808080) === 0) return word;
  let held = 0;
  for (let shift = 0; shift < 32; shift += 8) held |= Math.max((word >>> shift) & 255, 1) << shift;
  return held;
}
