// The KV write on the CPU: what stands in an arena after a row was stored, and what attention then sees of it. rope.test.ts holds it and the kernel to
// the same bounds.
import { roundEven } from '../quantize/reference.ts';
import { LEAST_PEAK } from '../quantize/storeBlock.ts';
import { BLOCK_SLOTS, CHUNK, type KvFormat, kvLayout } from './format.ts';
import { hadamardSize, turnsKeys } from './hadamard.ts';

const MOST_HALF = 65504;

/** A row of q or k, rotated by its position, as the format wants it: turned (hadamard.ts) or as it is. */
export function turnedRow(format: KvFormat, row: Float64Array): Float64Array {
  if (!turnsKeys(format)) return row;
  const size = hadamardSize(row.length);
  const signOf = (i: number, j: number): number => {
    let odd = 0;
    for (let bits = i & j; bits; bits &= bits - 1) odd ^= 1;
    return odd ? -1 : 1;
  };
  return row.map((_, i) => {
    const first = i - (i % size);
    let sum = 0;
    for (let j = 0; j < size; j++) sum += signOf(i % size, j) * (row[first + j] as number);
    return sum / Math.sqrt(size);
  });
}

/** Stores the row of plane `plane`, slot `slot` and returns it as it can be read back, [headDim]. */
export function storeRow(
  arena: DataView,
  format: KvFormat,
  plane: number,
  slot: number,
  row: Float32Array,
): Float32Array {
  const { bytes, planeElements, rowElements, most } = kvLayout(format, row.length);
  const at = (plane * planeElements + slot * rowElements) * bytes;
  const read = new Float32Array(row.length);
  if (format === 'f32' || format === 'f16') {
    for (const [i, value] of row.entries()) {
      read[i] = format === 'f16' ? Math.f16round(Math.max(-MOST_HALF, Math.min(MOST_HALF, value))) : value;
      if (format === 'f16') arena.setFloat16(at + i * 2, read[i] as number, true);
      else arena.setFloat32(at + i * 4, value, true);
    }
    return read;
  }
  const largest = Math.max(...row.map(Math.abs));
  const scale = Math.fround(largest / most);
  const inverse = largest > LEAST_PEAK ? Math.fround(most / largest) : 0;
  arena.setFloat32((plane * planeElements + BLOCK_SLOTS * rowElements) * bytes + slot * 4, scale, true);
  const bits = (bytes * 8) / CHUNK;
  for (let i = 0; i < row.length; i += CHUNK) {
    let words = 0n;
    for (let j = 0; j < CHUNK; j++) {
      const level = roundEven(Math.fround((row[i + j] as number) * inverse));
      words |= (BigInt(level) & ((1n << BigInt(bits)) - 1n)) << BigInt(j * bits);
      read[i + j] = Math.fround(level * scale);
    }
    const word = at + (i / CHUNK) * bytes;
    arena.setUint32(word, Number(words & 0xffffffffn), true);
    if (bytes === 8) arena.setUint32(word + 4, Number(words >> 32n), true);
  }
  return read;
}
