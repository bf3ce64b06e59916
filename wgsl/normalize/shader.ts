// hidden += delta, then RMSNorm of hidden as activations for the next matrix: one workgroup per token, one lane per block of 32 (strided),
// so that the sum of squares has one fixed order: within a lane ascending, then a fixed tree over lanes.
import type { Activations } from '../matmul/variant.ts';
import { storeBlock } from '../quantize/storeBlock.ts';

/** Lanes of a workgroup. A software adapter runs idle lanes and barriers one after another: there fewer are faster, by half at 16 tokens. */
export const normalizeLanes = (software: boolean): number => (software ? 8 : 64);

export function normalizeShader(format: Activations, lanes: number): string {
  return `
struct Params {
  blocks: u32,    // hidden / 32
  epsilon: f32,
}
@group(0) @binding(0) var<storage, read_write> hidden: array<vec4f>;       // [token][blocks * 8]
@group(0) @binding(1) var<storage, read> delta: array<vec4f>;              // [token][blocks * 8]
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;             // [blocks * 8]
@group(0) @binding(3) var<storage, read> rowToken: array<u32>;             // token of each row to do
@group(0) @binding(4) var<storage, read_write> activations: array<vec4u>;  // [row], storeBlock.ts
@group(0) @binding(5) var<uniform> p: Params;
var<workgroup> partial: array<f32, ${lanes}>;
${storeBlock(format)}

@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup.x;
  let base = rowToken[row] * p.blocks * 8u;
  var squares = vec4f(0.0);
  for (var block = lane; block < p.blocks; block += ${lanes}u) {
    for (var i = 0u; i < 8u; i++) {
      let at = base + block * 8u + i;
      let h = hidden[at] + delta[at];
      hidden[at] = h;
      squares = fma(h, h, squares);
    }
  }
  partial[lane] = (squares.x + squares.y) + (squares.z + squares.w);
  workgroupBarrier();
  for (var step = ${lanes / 2}u; step > 0u; step >>= 1u) {
    if (lane < step) { partial[lane] += partial[lane + step]; }
    workgroupBarrier();
  }
  let factor = inverseSqrt(partial[0] / f32(p.blocks * 32u) + p.epsilon);
  for (var block = lane; block < p.blocks; block += ${lanes}u) {
    var v: array<vec4f, 8>;
    for (var i = 0u; i < 8u; i++) { v[i] = hidden[base + block * 8u + i] * factor * weight[block * 8u + i]; }
    storeBlock(row * p.blocks + block, v);
  }
}
`;
}
