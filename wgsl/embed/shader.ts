// hidden = embedding row of each token, dequantised from the packed matrix; delta = 0. One lane per token and block of 32 elements.
// An embedding larger than one storage binding is several ranges of tiles: each dispatch writes only the tokens in its range.
import { hasScales, KINDS, type MatrixLayout, type WeightKind } from '../matmul/layout.ts';
import {
  BIAS,
  blockIndices,
  loadQuants,
  loadScale,
  pairFields,
  pairValues,
  superScaleIndex,
} from '../matmul/quants.ts';

export const EMBED_LANES = 64;

export function embedShader(kind: WeightKind): string {
  const { span } = KINDS[kind];
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
  let quantsAt = (tile - p.firstTile) * p.tileStride + window * p.windowStride;
  let scalesAt = (tile - p.firstTile) * p.tileStride + 8u * p.windowStride + (window / 4u) * p.scaleStride;
  let spanAt = (lane / 8u) * (p.blocks / ${span}u) + block / ${span}u;
  let inner = block % ${span}u;
  let inGroup = lane % 8u;
  ${blockIndices(kind)}
  ${blockValues(kind)}
  for (var i = 0u; i < 8u; i++) {
    hidden[id.x * 8u + i] = vec4f(values[2u * i], values[2u * i + 1u]);
    delta[id.x * 8u + i] = vec4f(0.0);
  }
}
`;
}

/** The shader's Params for tiles [firstTile, firstTile + tiles), which lie at the front of their buffer. */
export function embedParams(layout: MatrixLayout, firstTile: number, tiles: number): Uint32Array<ArrayBuffer> {
  const { blocks, lanes, windowBytes, scaleBytes, tileBytes } = layout;
  return Uint32Array.of(blocks, lanes, windowBytes / 16, scaleBytes / 16, tileBytes / 16, firstTile, tiles);
}

/** values: array<vec2f, 16>, the pairs of the block. */
function blockValues(kind: WeightKind): string {
  const out = loadQuants(kind, (at) => `matrix[quantsAt + ${at}]`);
  if (hasScales(kind))
    out.push(
      ...loadScale(
        kind,
        'matrix[scalesAt + scaleAt][window % 4u]',
        `matrix[scalesAt + ${superScaleIndex}][window % 4u]`,
      ),
    );
  const pairs = Array.from({ length: 16 }, (_, i) => {
    if (kind in BIAS) out.push(`let n${i} = ${pairFields(kind as keyof typeof BIAS, i)};`);
    return scaledPair(kind, i);
  });
  return [...out, `var values = array<vec2f, 16>(${pairs.join(', ')});`].join('\n  ');
}

function scaledPair(kind: WeightKind, i: number): string {
  const value = pairValues(kind, i, `n${i}`);
  if (!hasScales(kind)) return value;
  if (kind === 'q6k') return `(${value}) * (dm.x * f32(sub${i >> 3}))`;
  return `fma(${value}, vec2f(dm.x), vec2f(${kind === 'q8' ? '0.0' : 'dm.y'}))`;
}
