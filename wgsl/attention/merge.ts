// Merges what the splits of a context gave apart, in ascending order: the operations and the bits of a unit that goes through all splits.
// A lane has 8 dims of a head of a row; or 32, which it hands on as activations of the next matrix.
//
// partials: [item][rows][heads][splits][headDim / 4 + 1] vec4f: the sum of weighted v, then {maximum, sum of weights, 0, 0}
import { CHUNK } from '../kv/format.ts';
import { BLOCK } from '../matmul/layout.ts';
import type { Activations } from '../matmul/variant.ts';
import { storeBlock } from '../quantize/storeBlock.ts';
import { CONTEXT_SPLIT, type KvShape } from './shape.ts';

export const MERGE_LANES = 64;

/** vec4f of a split's part for one row and head. */
export function partialElements({ headDim }: KvShape): number {
  return headDim / 4 + 1;
}

/** Workgroups along x; along y: items · rows. */
export function mergeWorkgroups({ heads, headDim }: KvShape, into: Activations | null = null): number {
  return Math.ceil((heads * (headDim / dimsOf(into))) / MERGE_LANES);
}

export const mergeLabel = (into: Activations | null = null): string => `merge of splits${into ? ` into ${into}` : ''}`;

const dimsOf = (into: Activations | null): number => (into === null ? CHUNK : BLOCK);

/** `rows`: of an item at most; `into`: see spread.ts. */
export function mergeShader(shape: KvShape, rows: number, into: Activations | null = null): string {
  const { heads, headDim } = shape;
  const chunks = headDim / dimsOf(into);
  const vectors = dimsOf(into) / 4;
  const each = (line: (i: number) => string): string => Array.from({ length: vectors }, (_, i) => line(i)).join('\n');
  const elements = partialElements(shape);
  return `
struct Item { token: u32, rows: u32, table: u32, position: u32 }
@group(0) @binding(0) var<storage, read> partials: array<vec4f>;
@group(0) @binding(1) var<storage, read> items: array<Item>;
@group(0) @binding(2) var<uniform> counts: vec4u;                     // w: splits of the longest context
${
  into === null
    ? '@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;     // [token][heads][headDim / 4]'
    : `@group(0) @binding(3) var<storage, read_write> activations: array<vec4u>;
${storeBlock(into)}`
}

@compute @workgroup_size(${MERGE_LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let head = id.x / ${chunks}u;
  let part = id.x % ${chunks}u;
  let item = items[id.y / ${rows}u];
  let row = id.y % ${rows}u;
  if (head >= ${heads}u || row >= item.rows) { return; }
  var top = -3.0e38;
  var total = 0.0;
${each((i) => `  var v${i} = vec4f(0.0);`)}
  for (var split = 0u; split * ${CONTEXT_SPLIT}u < item.position + item.rows; split++) {
    let at = ((id.y * ${heads}u + head) * counts.w + split) * ${elements}u;
    let closed = partials[at + ${elements - 1}u];
    let peak = max(top, closed.x);
    let before = exp(top - peak);
    let now = exp(closed.x - peak);
    top = peak;
    total = fma(total, before, closed.y * now);
${each((i) => `    v${i} = fma(v${i}, vec4f(before), partials[at + ${vectors}u * part + ${i}u] * now);`)}
  }
  ${
    into === null
      ? `let to = ((item.token + row) * ${heads}u + head) * ${headDim / 4}u + ${vectors}u * part;
${each((i) => `  out[to + ${i}u] = v${i} / total;`)}`
      : `storeBlock(((item.token + row) * ${heads}u + head) * ${chunks}u + part, array<vec4f, 8>(${Array.from({ length: vectors }, (_, i) => `v${i} / total`).join(', ')}));`
  }
}
`;
}
