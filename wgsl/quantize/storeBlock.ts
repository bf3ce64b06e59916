// How activations are handed to a matrix kernel: the WGSL function storeBlock(at, v) that every producer of activations ends with.
//
//   int8, per token and block of 32: 5 vec4u = 16 words (a[2i] << 16) + a[2i+1], then {Σ words mod 2^32, scale as f32 bits, scale·Σa as f32 bits, 0}
//   f32,  per token and block of 32: 8 vec4f in order
// Scale = max|v| / 127 per block of 32, a = round(v / scale), ties to even; where max|v| is up to LEAST_PEAK, a = 0.
import type { Activations } from '../matmul/variant.ts';

/** A block, or a row of k or v, whose largest magnitude isn't above that is stored as zeros: 127 over one of 2^-121 or less is beyond f32, and no integer is infinite. */
export const LEAST_PEAK = 2 ** -100;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Needs `var<storage, read_write> activations: array<vec4u>` in scope; `block` = token * blocks + block index. */
export function storeBlock(format: Activations): string {
  if (format === 'f32')
    return `
fn storeBlock(block: u32, v: array<vec4f, 8>) {
${range(8)
  .map((i) => `  activations[block * 8u + ${i}u] = bitcast<vec4u>(v[${i}]);`)
  .join('\n')}
}`;
  return `
fn storeBlock(block: u32, v: array<vec4f, 8>) {
  var most = vec4f(0.0);
${range(8)
  .map((i) => `  most = max(most, abs(v[${i}]));`)
  .join('\n')}
  let amax = max(max(most.x, most.y), max(most.z, most.w));
  let scale = amax / 127.0;
  let inverse = select(0.0, 127.0 / amax, amax > ${LEAST_PEAK});
  var sumA = vec4i(0);
  var sumX = vec2u(0u);
${range(4)
  .map(
    (i) => `  let a${i} = vec4i(round(v[${2 * i}] * inverse));
  let b${i} = vec4i(round(v[${2 * i + 1}] * inverse));
  sumA += a${i} + b${i};
  let x${i} = bitcast<vec2u>((a${i}.xz << vec2u(16u)) + a${i}.yw);
  let y${i} = bitcast<vec2u>((b${i}.xz << vec2u(16u)) + b${i}.yw);
  sumX += x${i} + y${i};
  activations[block * 5u + ${i}u] = vec4u(x${i}, y${i});`,
  )
  .join('\n')}
  let total = f32(sumA.x + sumA.y + sumA.z + sumA.w);
  activations[block * 5u + 4u] = vec4u(sumX.x + sumX.y, bitcast<u32>(scale), bitcast<u32>(scale * total), 0u);
}`;
}
