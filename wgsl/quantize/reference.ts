// What quantize computes and what storeBlock leaves, on the CPU: values in f64, words by the drawing in storeBlock.ts.
import { BLOCK } from '../matmul/layout.ts';
import { type Activations, X_PARTS } from '../matmul/variant.ts';
import type { QuantizeVariant } from './shader.ts';
import { LEAST_PEAK } from './storeBlock.ts';

/** Words of a block of 32. */
export const storedWords = (format: Activations): number => X_PARTS[format] * 4;

/** A token's row of the source as values of the next matrix' activations: as it is, or silu(gate)·up of [gate | up]. */
export function quantizeReference(source: QuantizeVariant['source'], row: Float32Array): Float64Array {
  if (source === 'plain') return Float64Array.from(row);
  const width = row.length / 2;
  return Float64Array.from({ length: width }, (_, i) => (row[i]! / (1 + Math.exp(-row[i]!))) * row[width + i]!);
}

/** Values [blocks · 32] as words, [blocks · storedWords]. Each step of int8 is rounded to f32, as the shader's are. */
export function storedBlocks(format: Activations, values: ArrayLike<number>): Uint32Array {
  if (format === 'f32') return new Uint32Array(Float32Array.from(values).buffer);
  const stride = storedWords(format);
  const words = new Uint32Array((values.length / BLOCK) * stride);
  const floats = new Float32Array(words.buffer);
  for (let block = 0; block * BLOCK < values.length; block++) {
    const v = Float32Array.from({ length: BLOCK }, (_, i) => values[block * BLOCK + i]!);
    const peak = Math.max(...v.map(Math.abs));
    const scale = Math.fround(peak / 127);
    const inverse = peak > LEAST_PEAK ? Math.fround(127 / peak) : 0;
    const a = Array.from(v, (value) => roundEven(Math.fround(value * inverse)));
    const at = block * stride;
    for (let i = 0; i < 16; i++) words[at + i] = (a[2 * i]! << 16) + a[2 * i + 1]!;
    words[at + 16] = words.subarray(at, at + 16).reduce((sum, word) => sum + word, 0);
    floats[at + 17] = scale;
    floats[at + 18] = scale * a.reduce((sum, each) => sum + each, 0);
  }
  return words;
}

/** The integers of a stored int8 block, whose words begin at `at`. */
export function storedIntegers(words: Uint32Array, at: number): number[] {
  return Array.from({ length: BLOCK }, (_, i) => {
    const word = words[at + (i >> 1)]!;
    const low = (word << 16) >> 16;
    return i & 1 ? low : (word - low) >> 16;
  });
}

/** What stored words stand for, [blocks · 32]. */
export function valuesOf(format: Activations, words: Uint32Array): Float32Array {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  if (format === 'f32') return floats;
  const stride = storedWords(format);
  const values = new Float32Array((words.length / stride) * BLOCK);
  for (let at = 0; at < words.length; at += stride)
    values.set(
      storedIntegers(words, at).map((a) => a * floats[at + 17]!),
      (at / stride) * BLOCK,
    );
  return values;
}

/** Ties to even, as WGSL's round(). */
export function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
