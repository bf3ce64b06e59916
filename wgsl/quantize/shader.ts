// Turns a row of f32 into activations for the next matrix: as it is, or silu(gate)·up of a [gate | up] row. One lane per block of 32.
import { BLOCK } from '../matmul/layout.ts';
import type { Activations } from '../matmul/variant.ts';
import { storeBlock } from './storeBlock.ts';

export interface QuantizeVariant {
  source: 'plain' | 'gated';
  format: Activations;
}

export const QUANTIZE_LANES = 64;

export const SILU = 'fn silu(v: vec4f) -> vec4f { return v / (1.0 + exp(-v)); }';

export function quantizeShader({ source, format }: QuantizeVariant): string {
  const value = source === 'plain' ? 'source[at + i]' : 'silu(source[at + i]) * source[at + p.stride4 / 2u + i]';
  return `
struct Params {
  blocks: u32,   // blocks of 32 per token of the result
  stride4: u32,  // vec4f of source per token
}
@group(0) @binding(0) var<storage, read> source: array<vec4f>;             // [token][stride4]
@group(0) @binding(1) var<storage, read_write> activations: array<vec4u>;  // storeBlock.ts
@group(0) @binding(2) var<uniform> p: Params;
@group(0) @binding(3) var<uniform> counts: vec4u;                          // x: tokens of this step
${storeBlock(format)}

${SILU}

@compute @workgroup_size(${QUANTIZE_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let token = id.x / p.blocks;
  if (token >= counts.x) { return; }
  let block = id.x % p.blocks;
  let at = token * p.stride4 + block * 8u;
  var v: array<vec4f, 8>;
  let zero = counts.x >> 31u;   // keeps the bound from a software adapter's compiler, which would unroll the loop for seconds
  for (var i = 0u; i < 8u + zero; i++) { v[i] = ${value}; }
  storeBlock(id.x, v);
}
`;
}

/** Elements of a token's source for a result of `width`. */
export const sourceWidth = ({ source }: Pick<QuantizeVariant, 'source'>, width: number): number =>
  source === 'gated' ? 2 * width : width;

/** The shader's Params for a result of `width` per token. */
export const quantizeParams = (variant: Pick<QuantizeVariant, 'source'>, width: number): Uint32Array<ArrayBuffer> =>
  Uint32Array.of(width / BLOCK, sourceWidth(variant, width) / 4);
