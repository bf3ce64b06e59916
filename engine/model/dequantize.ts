// The exact f32 value of every element of a tensor, as ggml's dequantize_row_* reference has it: the ground truth for kernels and
// for the CPU reference. Readable, not fast: serving reads a few small vectors with it.
import { invariant } from '../invariant.ts';
import { BLOCK_LAYOUT, rowByteLength } from './tensorTypes.ts';
import type { ModelFile, TensorInfo, TensorType } from './types.ts';

/** Writes the elements of the block at byte `at` to out[to...]. Each product and sum is rounded to f32, in the order of the drawing. */
type BlockReader = (view: DataView, at: number, out: Float32Array, to: number) => void;

const half = (view: DataView, at: number): number => view.getFloat16(at, true);

/** 16 bytes: low nibbles are elements 0..15, high ones 16..31. */
function nibbles(view: DataView, at: number, use: (element: number, q: number) => void): void {
  for (let i = 0; i < 16; i++) {
    use(i, view.getUint8(at + i) & 15);
    use(i + 16, view.getUint8(at + i) >> 4);
  }
}

/**
 * Scale and least value, 6 bits each, of eight sub-blocks in 12 bytes:
 *
 *   byte      0 .. 3              4 .. 7              8 .. 11
 *   low bits  scale of i          least of i − 4      scale of i − 4: 4 low bits │ least of i − 4: 4 low bits (high nibble)
 *   bits 6–7  upper of scale i+4  upper of least i
 */
function scaleAndLeast(view: DataView, at: number, sub: number): [scale: number, least: number] {
  const byte = (i: number): number => view.getUint8(at + i);
  if (sub < 4) return [byte(sub) & 63, byte(sub + 4) & 63];
  const low = byte(sub + 4);
  return [(low & 15) | ((byte(sub - 4) >> 6) << 4), (low >> 4) | ((byte(sub) >> 6) << 4)];
}

/** Q4_K and Q5_K: chunk c of 32 bytes holds sub-block 2c in its low nibbles and 2c + 1 in its high ones; a fifth bit comes from `fifth`. */
function superBlock(
  view: DataView,
  at: number,
  quants: number,
  fifth: (element: number, sub: number) => number,
  out: Float32Array,
  to: number,
): void {
  const d = half(view, at);
  const dmin = half(view, at + 2);
  for (let sub = 0; sub < 8; sub++) {
    const [scale, least] = scaleAndLeast(view, at + 4, sub);
    for (let i = 0; i < 32; i++) {
      const byte = view.getUint8(quants + 32 * (sub >> 1) + i);
      const q = (sub & 1 ? byte >> 4 : byte & 15) + 16 * fifth(i, sub);
      out[to + 32 * sub + i] = Math.fround(d * scale * q) - dmin * least;
    }
  }
}

const READERS: Record<TensorType, BlockReader> = {
  F32(view, at, out, to) {
    out[to] = view.getFloat32(at, true);
  },
  F16(view, at, out, to) {
    out[to] = half(view, at);
  },
  /** The upper half of an f32. */
  BF16(view, at, out, to) {
    new Uint32Array(out.buffer, out.byteOffset)[to] = view.getUint16(at, true) << 16;
  },
  /** d f16 | 16 bytes of nibbles | value = d · (q − 8) */
  Q4_0(view, at, out, to) {
    const d = half(view, at);
    nibbles(view, at + 2, (i, q) => {
      out[to + i] = d * (q - 8);
    });
  },
  /** d f16, m f16 | 16 bytes of nibbles | value = d · q + m */
  Q4_1(view, at, out, to) {
    const [d, m] = [half(view, at), half(view, at + 2)];
    nibbles(view, at + 4, (i, q) => {
      out[to + i] = Math.fround(d * q) + m;
    });
  },
  /** d f16 | 32 × i8 | value = d · q */
  Q8_0(view, at, out, to) {
    const d = half(view, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * view.getInt8(at + 2 + i);
  },
  /** d f16, dmin f16 | 12 bytes of scales | 128 bytes of nibbles | value = d · scale · q − dmin · least */
  Q4_K(view, at, out, to) {
    superBlock(view, at, at + 16, () => 0, out, to);
  },
  /** as Q4_K, with 32 bytes before the nibbles: bit s of byte i is the fifth bit of element i of sub-block s */
  Q5_K(view, at, out, to) {
    superBlock(view, at, at + 48, (i, sub) => (view.getUint8(at + 16 + i) >> sub) & 1, out, to);
  },
  /**
   * 128 bytes of low nibbles | 64 bytes of upper bit pairs | 16 × i8 scales, one for 16 elements | d f16 | value = d · scale · (q − 32)
   *
   * In each half of 128 elements, quarter r = 32 elements: nibbles of bytes 32·(r & 1).. (high ones from r = 2 on), bits 2r of the 32 bytes.
   */
  Q6_K(view, at, out, to) {
    const d = half(view, at + 208);
    for (let element = 0; element < 256; element++) {
      const [upper, quarter, i] = [element >> 7, (element >> 5) & 3, element & 31];
      const low = (view.getUint8(at + 64 * upper + 32 * (quarter & 1) + i) >> (4 * (quarter >> 1))) & 15;
      const high = (view.getUint8(at + 128 + 32 * upper + i) >> (2 * quarter)) & 3;
      const scale = view.getInt8(at + 192 + (element >> 4));
      out[to + element] = d * scale * ((low | (high << 4)) - 32);
    }
  },
};

/** Fills `out` from one or several whole rows. */
export function dequantize(type: TensorType, bytes: Uint8Array, out: Float32Array): void {
  invariant(bytes.byteLength === rowByteLength(type, out.length), 'bytes and elements agree', {
    type,
    bytes: bytes.byteLength,
    elements: out.length,
  });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { elements, bytes: blockBytes } = BLOCK_LAYOUT[type];
  const read = READERS[type];
  for (let block = 0; block * elements < out.length; block++) read(view, block * blockBytes, out, block * elements);
}

/** Rows [first, first + count) of a tensor as f32, [count, cols]. */
export async function readRows(
  file: ModelFile,
  tensor: TensorInfo,
  first = 0,
  count = tensor.rows - first,
): Promise<Float32Array> {
  const rowBytes = rowByteLength(tensor.type, tensor.cols);
  const bytes = new Uint8Array(count * rowBytes);
  await file.read(tensor, first * rowBytes, bytes);
  const out = new Float32Array(count * tensor.cols);
  dequantize(tensor.type, bytes, out);
  return out;
}
