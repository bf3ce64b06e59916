// The exact f32 value of every element of a tensor, as ggml's dequantize_row_* reference has it: the ground truth for kernels and
// for the CPU reference. Readable, not fast; serving never runs it.
import { invariant } from '../invariant.ts';
import { rowByteLength } from './tensorTypes.ts';
import type { ModelFile, TensorInfo, TensorType } from './types.ts';

const BLOCK = 32;

/**
 * Fills `out` from one or several whole rows.
 *
 *   Q4_0 block: d f16 | 16 bytes: low nibbles are elements 0..15, high nibbles 16..31 | value = d · (q − 8)
 *   Q4_1 block: d f16, m f16 | the same 16 bytes                                      | value = d · q + m
 *   Q8_0 block: d f16 | 32 × i8                                                       | value = d · q
 *
 * Each product and sum is rounded to f32, in that order.
 */
export function dequantize(type: TensorType, bytes: Uint8Array, out: Float32Array): void {
  invariant(bytes.byteLength === rowByteLength(type, out.length), 'bytes and elements agree', {
    type,
    bytes: bytes.byteLength,
    elements: out.length,
  });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (type === 'F32') {
    for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(i * 4, true);
    return;
  }
  if (type === 'F16') {
    for (let i = 0; i < out.length; i++) out[i] = view.getFloat16(i * 2, true);
    return;
  }
  const stride = rowByteLength(type, BLOCK);
  for (let block = 0; block * BLOCK < out.length; block++) {
    const at = block * stride;
    const d = view.getFloat16(at, true);
    const element = block * BLOCK;
    if (type === 'Q8_0') {
      for (let i = 0; i < BLOCK; i++) out[element + i] = d * view.getInt8(at + 2 + i);
      continue;
    }
    const quants = at + (type === 'Q4_1' ? 4 : 2);
    const m = type === 'Q4_1' ? view.getFloat16(at + 2, true) : 0;
    for (let i = 0; i < BLOCK / 2; i++) {
      const byte = view.getUint8(quants + i);
      for (const [half, q] of [byte & 15, byte >> 4].entries())
        out[element + half * 16 + i] = type === 'Q4_1' ? Math.fround(d * q) + m : d * (q - 8);
    }
  }
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
