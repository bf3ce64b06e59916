// Stored activations against the values that they stand for, as tightly as WGSL lets a kernel differ: its division may be off by 2.5 ulp, and an
// integer is the other one only where the quotient is as near to a tie as that.
import { expect } from 'vitest';
import { BLOCK } from '../../wgsl/matmul/layout.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';
import { storedIntegers, storedWords, valuesOf } from '../../wgsl/quantize/reference.ts';
import { LEAST_PEAK } from '../../wgsl/quantize/storeBlock.ts';
import { expectNear } from './near.ts';

const DIVISION = 2 ** -21;
/** What isn't a normal f32 may be taken for zero. */
const LEAST_NORMAL = 2 ** -126;

/** `exact`: the values [blocks · 32] in f64; the kernel knows each up to `relative` of itself. */
export function expectActivations(
  format: Activations,
  words: Uint32Array,
  exact: Float64Array,
  relative: number,
  name: string,
): void {
  if (format === 'f32') {
    expectNear(valuesOf(format, words), exact, (i) => relative * Math.abs(exact[i]!) + LEAST_NORMAL, name);
    return;
  }
  const stride = storedWords(format);
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  for (let block = 0; block * BLOCK < exact.length; block++) {
    const at = block * stride;
    const v = exact.subarray(block * BLOCK, (block + 1) * BLOCK);
    const peak = Math.max(...v.map(Math.abs));
    const place = `${name}, block ${block}`;
    const scale = floats[at + 17]!;
    expectNear([scale], [peak / 127], () => (relative + DIVISION) * (peak / 127) + LEAST_NORMAL, `${place}: scale`);
    const a = storedIntegers(words, at);
    const quotients = v.map((value) => (peak > LEAST_PEAK ? (127 * value) / peak : 0));
    expectNear(a, quotients, () => 0.5 + 127 * (2 * relative + DIVISION), `${place}: integers`);
    const sum = a.reduce((total, each) => total + each, 0);
    const pairs = words.subarray(at, at + 16).reduce((total, word) => (total + word) >>> 0, 0);
    expect([words[at + 16], floats[at + 18], words[at + 19]], `${place}: sums`).toEqual([
      pairs,
      Math.fround(scale * sum),
      0,
    ]);
  }
}
