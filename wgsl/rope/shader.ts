// Rotates q and k of each token by its position, scales q, and writes k and v into the paged KV arena. One lane per 8 dims of a head.
// Pairs are adjacent dims (2i, 2i+1), as GGUF's llama layout permutes them (RoFormer, arXiv 2104.09864). cos and sin come from the
// host in f64 rounded to f32, so that no adapter's own sine is in the result.
//
// Arena of a layer, f16: [block][k | v][kv head][16 slots][head dim]; a lane's 8 values are one vec4u of it.
import type { KvShape } from '../attention/shape.ts';

export const ROPE_LANES = 64;

export function ropeShader(shape: KvShape): string {
  const { heads, kvHeads, headDim, ropeDim } = shape;
  const perHead = headDim / 8;
  const units = (heads + 2 * kvHeads) * perHead;
  return `
@group(0) @binding(0) var<storage, read_write> qkv: array<vec4f>;    // [token][heads + 2 * kvHeads][headDim / 4]
@group(0) @binding(1) var<storage, read_write> arena: array<vec4u>;  // [block][2][kvHeads][16][headDim / 8]
@group(0) @binding(2) var<storage, read> slots: array<u32>;          // [token]: block * 16 + slot
@group(0) @binding(3) var<storage, read> rotation: array<vec4f>;     // [token][ropeDim / 4]: cos, sin of two pairs
@group(0) @binding(4) var<uniform> counts: vec4u;                    // x: tokens of this step

fn rotate(v: vec4f, r: vec4f) -> vec4f {
  return vec4f(v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x, v.z * r.z - v.w * r.w, v.z * r.w + v.w * r.z);
}

@compute @workgroup_size(${ROPE_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let token = id.x / ${units}u;
  if (token >= counts.x) { return; }
  let unit = id.x % ${units}u;
  let head = unit / ${perHead}u;
  let part = unit % ${perHead}u;
  let at = id.x * 2u;
  var a = qkv[at];
  var b = qkv[at + 1u];
  if (head < ${heads + kvHeads}u && part < ${ropeDim / 8}u) {
    let r = token * ${ropeDim / 4}u + part * 2u;
    a = rotate(a, rotation[r]);
    b = rotate(b, rotation[r + 1u]);
  }
  if (head < ${heads}u) {
    qkv[at] = a * ${1 / Math.sqrt(headDim)};
    qkv[at + 1u] = b * ${1 / Math.sqrt(headDim)};
  } else {
    let kvHead = head - ${heads}u;  // k heads, then v heads
    let slot = slots[token];
    let row = ((slot / 16u) * ${2 * kvHeads}u + kvHead) * 16u + slot % 16u;
    // Attention multiplies masked values by zero: they have to be finite.
    a = clamp(a, vec4f(-65504.0), vec4f(65504.0));
    b = clamp(b, vec4f(-65504.0), vec4f(65504.0));
    arena[row * ${perHead}u + part] = vec4u(
      pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
  }
}
`;
}
