// f32 to the stored forms of a tensor, as ggml's quantize_row_*_ref has it. Only tests write models; the engine reads them.
import { rowByteLength } from '../../engine/model/tensorTypes.ts';
import type { TensorType } from '../../engine/model/types.ts';

const BLOCK = 32;

function inverse(scale: number): number {
  return scale === 0 ? 0 : 1 / scale;
}

function quantizeBlock(type: TensorType, values: Float32Array, view: DataView, at: number): void {
  if (type === 'Q8_0') {
    const scale = Math.fround(Math.max(...values.map(Math.abs)) / 127);
    view.setFloat16(at, scale, true);
    values.forEach((value, i) => {
      view.setInt8(at + 2 + i, Math.round(value * inverse(scale)));
    });
    return;
  }
  let quants: number[];
  if (type === 'Q4_0') {
    const extreme = values.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    const scale = Math.fround(extreme / -8);
    view.setFloat16(at, scale, true);
    quants = Array.from(values, (value) => Math.min(15, Math.trunc(value * inverse(scale) + 8.5)));
    at += 2;
  } else {
    const least = Math.min(...values);
    const scale = Math.fround((Math.max(...values) - least) / 15);
    view.setFloat16(at, scale, true);
    view.setFloat16(at + 2, least, true);
    quants = Array.from(values, (value) => Math.min(15, Math.trunc((value - least) * inverse(scale) + 0.5)));
    at += 4;
  }
  for (let i = 0; i < BLOCK / 2; i++) view.setUint8(at + i, quants[i]! | (quants[i + BLOCK / 2]! << 4));
}

/** Bytes of whole rows; `values` holds a multiple of 32 elements for quantised types. */
export function quantize(type: TensorType, values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(rowByteLength(type, values.length));
  const view = new DataView(bytes.buffer);
  if (type === 'F32') for (let i = 0; i < values.length; i++) view.setFloat32(i * 4, values[i]!, true);
  else if (type === 'F16') for (let i = 0; i < values.length; i++) view.setFloat16(i * 2, values[i]!, true);
  else {
    const stride = rowByteLength(type, BLOCK);
    for (let block = 0; block * BLOCK < values.length; block++)
      quantizeBlock(type, values.subarray(block * BLOCK, (block + 1) * BLOCK), view, block * stride);
  }
  return bytes;
}
