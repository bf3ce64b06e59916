// Rotation on the CPU in f64 (RoFormer, arXiv 2104.09864): what stands in q afterwards, and what of k and v goes to the KV write (kv/reference.ts).
import type { KvShape } from '../attention/shape.ts';
import type { KvFormat } from '../kv/format.ts';
import { turnedRow } from '../kv/reference.ts';

/** A head's row [headDim] whose first pairs of dims are turned by cos and sin of each, `rotation` [ropeDim]. */
export function rotatedRow(row: Float32Array, rotation: Float32Array): Float64Array {
  const out = Float64Array.from(row);
  for (let i = 0; i < rotation.length; i += 2) {
    const [cos, sin] = [rotation[i]!, rotation[i + 1]!];
    out[i] = row[i]! * cos - row[i + 1]! * sin;
    out[i + 1] = row[i]! * sin + row[i + 1]! * cos;
  }
  return out;
}

/**
 * Row `head` of a token's `qkv`, [heads + 2 · kvHeads][headDim]: q as attention takes it, rotated, turned where the format turns k, over the root of
 * headDim; k rotated and turned; v as it is.
 */
export function ropeReference(
  { heads, kvHeads, headDim }: KvShape,
  format: KvFormat,
  qkv: Float32Array,
  rotation: Float32Array,
  head: number,
): Float64Array {
  const row = qkv.subarray(head * headDim, (head + 1) * headDim);
  if (head >= heads + kvHeads) return Float64Array.from(row);
  const turned = turnedRow(format, rotatedRow(row, rotation));
  return head < heads ? turned.map((value) => value / Math.sqrt(headDim)) : turned;
}
