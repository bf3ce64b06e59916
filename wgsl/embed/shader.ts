// hidden = embedding row of each token, dequantised from the packed matrix; delta = 0. One lane per token and block of 32 elements.
// An embedding larger than one storage binding is several ranges of tiles: each dispatch writes only the tokens in its range.
import { hasScales, PARTS, type WeightKind } from '../matmul/layout.ts';

export const EMBED_LANES = 64;

export function embedShader(kind: WeightKind): string {
  const parts = PARTS[kind];
  const scaled = hasScales(kind);
  return `
struct Params {
  blocks: u32,
  lanes: u32,         // lanes per tile
  windowStride: u32,  // in vec4u, as scaleStride and tileStride
  scaleStride: u32,
  tileStride: u32,
  firstTile: u32,     // tiles in this buffer
  tiles: u32,
}
@group(0) @binding(0) var<storage, read> matrix: array<vec4u>;         // wgsl/matmul/layout.ts
@group(0) @binding(1) var<storage, read> tokenIds: array<u32>;
@group(0) @binding(2) var<storage, read_write> hidden: array<vec4f>;   // [token][blocks * 8]
@group(0) @binding(3) var<storage, read_write> delta: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;
@group(0) @binding(5) var<uniform> counts: vec4u;                      // x: tokens of this step

@compute @workgroup_size(${EMBED_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let token = id.x / p.blocks;
  if (token >= counts.x) { return; }
  let block = id.x % p.blocks;
  let row = tokenIds[token];
  let tile = row / (p.lanes * 8u);
  if (tile < p.firstTile || tile >= p.firstTile + p.tiles) { return; }
  let lane = row % (p.lanes * 8u) / 8u;
  let window = row % 8u;
  let tileAt = (tile - p.firstTile) * p.tileStride;
  let blockAt = (lane / 8u) * p.blocks + block;
  let quantAt = tileAt + window * p.windowStride + blockAt * ${parts * 8}u + lane % 8u;
  ${
    scaled
      ? `let scaleAt = tileAt + 8u * p.windowStride + (window / 4u) * p.scaleStride + blockAt * 8u + lane % 8u;
  let dm = unpack2x16float(matrix[scaleAt][window % 4u]);`
      : ''
  }
  for (var i = 0u; i < 8u; i++) {
    hidden[id.x * 8u + i] = ${VALUES[kind]};
    delta[id.x * 8u + i] = vec4f(0.0);
  }
}
`;
}

/** Elements 4i .. 4i+3 of the block at quantAt. */
const VALUES: Record<WeightKind, string> = {
  q4: 'fma(vec4f((vec4u(matrix[quantAt][i / 2u]) >> (vec4u(0u, 16u, 4u, 20u) + 8u * (i % 2u))) & vec4u(15u)) - 8.0, vec4f(dm.x), vec4f(dm.y))',
  q8: '(vec4f((vec4u(matrix[quantAt + (i / 4u) * 8u][i % 4u]) >> vec4u(0u, 16u, 8u, 24u)) & vec4u(255u)) - 128.0) * dm.x',
  f16: 'vec4f(unpack2x16float(matrix[quantAt + (i / 2u) * 8u][(i % 2u) * 2u]), unpack2x16float(matrix[quantAt + (i / 2u) * 8u][(i % 2u) * 2u + 1u]))',
  f32: 'bitcast<vec4f>(matrix[quantAt + i * 8u])',
};
