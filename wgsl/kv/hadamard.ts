// Before k is rounded to 4 bits, it and q are turned by a Hadamard matrix: a few dims of k are far larger than the rest, and turned their size
// is spread over all, so that one scale serves a head. The matrix over the root of its size is orthogonal: dots of q and k stay what they are
// but for rounding (QuaRot, arXiv 2404.00456). Values are not turned, as their result would have to be turned back after attention.
import type { KvFormat } from './format.ts';

export function turnsKeys(format: KvFormat): boolean {
  return format === 'int4';
}

/** Dims that are mixed: the largest power of two that divides a head. */
export function hadamardSize(headDim: number): number {
  return headDim & -headDim;
}

/** WGSL: `turn(row, zero)` in place; sums and differences of neighbours, then of twice as far apart, and so on. `zero`: 0, unknown to the compiler. */
export function hadamardShader(headDim: number): string {
  const size = hadamardSize(headDim);
  const row = `array<vec4f, ${headDim / 4}>`;
  return `
fn turn(row: ptr<function, ${row}>, zero: u32) {
  for (var i = 0u; i < ${headDim / 4}u + zero; i++) {
    let v = (*row)[i];
    let w = vec4f(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    (*row)[i] = vec4f(w.xy + w.zw, w.xy - w.zw);
  }
  for (var apart = 1u; apart < ${size / 4}u + zero; apart *= 2u) {
    for (var i = 0u; i < ${headDim / 4}u + zero; i++) {
      if ((i & apart) == 0u) {
        let a = (*row)[i];
        let b = (*row)[i + apart];
        (*row)[i] = a + b;
        (*row)[i + apart] = a - b;
      }
    }
  }
  for (var i = 0u; i < ${headDim / 4}u + zero; i++) { (*row)[i] *= ${1 / Math.sqrt(size)}; }
}`;
}
