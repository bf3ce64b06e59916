// Attention of single rows by a whole workgroup: for a GPU, where a row's eight lanes of shader.ts would wait for memory position by position. The
// operations on each value, and their order, are those of shader.ts, and so the bits.
//
//   scores: lane = position        softmax: lane = tile, then position        values: lane = dim of a head, over positions staged in workgroup memory
//
// A workgroup has the query heads of a unit (shape.ts), and goes through splits of 512 positions, or has one of them to itself (merge.ts).
import { BLOCK_SLOTS, CHUNK, kvLayout, loadChunk, loadScale } from '../kv/format.ts';
import { BLOCK } from '../matmul/layout.ts';
import type { Activations } from '../matmul/variant.ts';
import { storeBlock } from '../quantize/storeBlock.ts';
import { partialElements } from './merge.ts';
import type { AttentionVariant } from './shader.ts';
import { ATTENTION_LANES, CONTEXT_SPLIT, CONTEXT_TILE, headsPerUnit, type KvShape } from './shape.ts';

const TILES = CONTEXT_SPLIT / CONTEXT_TILE;
const LANES = ATTENTION_LANES;
/** Floats of v that are staged at once. */
const STAGED = 4096;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const each = (count: number, line: (index: number) => string): string => range(count).map(line).join('\n');

/** Positions of v staged at once: whole tiles. */
const stagedPositions = ({ headDim }: KvShape): number =>
  Math.max(CONTEXT_TILE, Math.floor(STAGED / headDim / CONTEXT_TILE) * CONTEXT_TILE);

/** Bytes of workgroup memory. */
export function spreadBytes(shape: KvShape): number {
  const size = headsPerUnit(shape);
  const { headDim } = shape;
  return (
    4 * (size * headDim + size * CONTEXT_SPLIT + 3 * size * TILES + size * LANES + stagedPositions(shape) * headDim)
  );
}

/** Whether what comes out can go as activations to the next matrix: no block of 32 lies across heads. */
export const quantizesInPlace = ({ headDim }: KvShape): boolean => headDim % BLOCK === 0;

/** `into`: rows of f32, or activations of the next matrix (quantize/storeBlock.ts) where nothing is left to be merged. */
export function spreadShader(
  shape: KvShape,
  { format, units, splits }: AttentionVariant,
  into: Activations | null = null,
): string {
  const { heads, kvHeads, headDim } = shape;
  const kv = kvLayout(format, headDim);
  const size = headsPerUnit(shape);
  const width = LANES * units;
  const chunks = headDim / CHUNK;
  const apart = splits === 'apart';
  const staged = stagedPositions(shape);
  const items = Math.ceil((size * headDim) / width); // dims of heads per lane
  const eachHead = (line: (head: number) => string): string => each(size, line);
  const eachItem = (line: (item: number) => string): string => each(items, line);
  const chunkScores = (h: number): string => {
    const [q, s] = [`(${h * 2 * chunks}u + 2u * c)`, `s${h}`];
    return `let qA${h} = query[${q}]; let qB${h} = query[${q} + 1u];
${s} = fma(qA${h}.x, kA.x, fma(qA${h}.y, kA.y, fma(qA${h}.z, kA.z, fma(qA${h}.w, kA.w, ${s}))));
${s} = fma(qB${h}.x, kB.x, fma(qB${h}.y, kB.y, fma(qB${h}.z, kB.z, fma(qB${h}.w, kB.w, ${s}))));`;
  };
  const stored = into !== null && !apart;
  const storeItem = (i: number): string => {
    const live = `lane + ${i * width}u < ${size * headDim}u`;
    if (!apart)
      return `  if (${live}) { out[(item.token * ${heads}u + firstHead + head${i}) * ${headDim}u + dim${i}] = all${i} / total${i}; }`;
    return `  if (${live}) {
    let to = ((workgroup.y * ${heads}u + firstHead + head${i}) * splits.z + workgroup.z) * ${partialElements(shape) * 4}u;
    out[to + dim${i}] = all${i};
    if (dim${i} == 0u) { out[to + ${headDim}u] = top${i}; out[to + ${headDim + 1}u] = total${i}; }
  }`;
  };
  const storeRow = `${eachItem((i) => `  if (lane + ${i * width}u < ${size * headDim}u) { values[lane + ${i * width}u] = all${i} / total${i}; }`)}
  workgroupBarrier();
  for (var block = lane; block < ${(size * headDim) / BLOCK}u; block += ${width}u) {
    var v: array<vec4f, 8>;
    for (var i = 0u; i < 8u; i++) {
      let at = block * ${BLOCK}u + 4u * i;
      v[i] = vec4f(values[at], values[at + 1u], values[at + 2u], values[at + 3u]);
    }
    storeBlock((item.token * ${heads}u + firstHead) * ${headDim / BLOCK}u + block, v);
  }`;
  return `
struct Item { token: u32, rows: u32, table: u32, position: u32 }
@group(0) @binding(0) var<storage, read> qkv: array<vec4f>;           // [token][heads + 2 * kvHeads][headDim / 4], q rotated and scaled
@group(0) @binding(1) var<storage, read> arena: array<${kv.type}>;
@group(0) @binding(2) var<storage, read> items: array<Item>;          // of one row each
@group(0) @binding(3) var<storage, read> tables: array<u32>;          // block tables
${
  stored
    ? `@group(0) @binding(4) var<storage, read_write> activations: array<vec4u>;
${storeBlock(into)}`
    : '@group(0) @binding(4) var<storage, read_write> out: array<f32>;       // [token][heads][headDim]; or partials, see merge.ts'
}
var<workgroup> query: array<vec4f, ${(size * headDim) / 4}>;          // [head][headDim / 4]
var<workgroup> scores: array<f32, ${size * CONTEXT_SPLIT}>;           // [head][position of the split]; then their weights
var<workgroup> peaks: array<f32, ${size * TILES}>;                    // [head][tile]
var<workgroup> tops: array<f32, ${size * TILES}>;                     // running maximum, the tile's included
var<workgroup> keeps: array<f32, ${size * TILES}>;                    // what is left of the sums before the tile
var<workgroup> sums: array<f32, ${size * LANES}>;                     // [head][position modulo 8]
var<workgroup> values: array<f32, ${staged * headDim}>;               // [position][dim]

@compute @workgroup_size(${width})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) splits: vec3u, @builtin(local_invocation_index) lane: u32) {
  let item = items[workgroup.y];
  let firstHead = workgroup.x * ${size}u;
  let kvHead = firstHead / ${heads / kvHeads}u;
  let end = item.position + 1u;
  ${apart ? `if (workgroup.z * ${CONTEXT_SPLIT}u >= end) { return; }` : ''}
  for (var i = lane; i < ${(size * headDim) / 4}u; i += ${width}u) {
    query[i] = qkv[item.token * ${((heads + 2 * kvHeads) * headDim) / 4}u + firstHead * ${headDim / 4}u + i];
  }
${eachItem(
  (i) => `  let at${i} = min(lane + ${i * width}u, ${size * headDim - 1}u);
  let head${i} = at${i} / ${headDim}u;
  let dim${i} = at${i} % ${headDim}u;
  var top${i} = -3.0e38; var total${i} = 0.0; var all${i} = 0.0;`,
)}
  workgroupBarrier();
  for (var split = ${apart ? `workgroup.z * ${CONTEXT_SPLIT}u` : '0u'}; split < ${apart ? `min(end, (workgroup.z + 1u) * ${CONTEXT_SPLIT}u)` : 'end'}; split += ${CONTEXT_SPLIT}u) {
    let count = min(end - split, ${CONTEXT_SPLIT}u);
    let tiles = (count + ${CONTEXT_TILE - 1}u) / ${CONTEXT_TILE}u;
    for (var position = lane; position < tiles * ${CONTEXT_TILE}u; position += ${width}u) {
${eachHead((h) => `      var s${h} = 0.0;`)}
      if (position < count) {
        let kPlane = (tables[item.table + (split + position) / ${BLOCK_SLOTS}u] * ${2 * kvHeads}u + kvHead) * ${kv.planeElements}u;
        let slot = position % ${BLOCK_SLOTS}u;
        for (var c = 0u; c < ${chunks}u; c++) {
          ${loadChunk(kv, 'k', `kPlane + slot * ${kv.rowElements}u + c * ${kv.perChunk}u`)}
          ${eachHead(chunkScores)}
        }
        ${kv.most ? `let kScale = ${loadScale(kv, 'kPlane', 'slot')};\n${eachHead((h) => `s${h} = s${h} * kScale;`)}` : ''}
      }
${eachHead((h) => `      scores[${h * CONTEXT_SPLIT}u + position] = select(-3.0e38, s${h}, position < count);`)}
    }
    workgroupBarrier();
    for (var i = lane; i < ${size}u * tiles; i += ${width}u) {
      let start = i / tiles * ${CONTEXT_SPLIT}u + i % tiles * ${CONTEXT_TILE}u;
      var peak = scores[start];
      for (var j = 1u; j < ${CONTEXT_TILE}u; j++) { peak = max(peak, scores[start + j]); }
      peaks[i / tiles * ${TILES}u + i % tiles] = peak;
    }
    workgroupBarrier();
    for (var i = lane; i < ${size}u * tiles; i += ${width}u) {
      let first = i / tiles * ${TILES}u;
      var most = -3.0e38;
      for (var j = 0u; j < i % tiles; j++) { most = max(most, peaks[first + j]); }
      let next = max(most, peaks[first + i % tiles]);
      tops[first + i % tiles] = next;
      keeps[first + i % tiles] = exp(most - next);
    }
    workgroupBarrier();
    for (var position = lane; position < tiles * ${CONTEXT_TILE}u; position += ${width}u) {
${eachHead((h) => `      scores[${h * CONTEXT_SPLIT}u + position] = exp(scores[${h * CONTEXT_SPLIT}u + position] - tops[${h * TILES}u + position / ${CONTEXT_TILE}u]);`)}
    }
    workgroupBarrier();
    if (lane < ${size * LANES}u) {
      let head = lane / ${LANES}u;
      var sum = 0.0;
      for (var tile = 0u; tile < tiles; tile++) {
        let start = head * ${CONTEXT_SPLIT}u + tile * ${CONTEXT_TILE}u + lane % ${LANES}u;
        sum = fma(sum, keeps[head * ${TILES}u + tile], scores[start] + scores[start + ${LANES}u]);
      }
      sums[lane] = sum;
    }
${eachItem((i) => `    var mixed${i} = 0.0;`)}
    for (var first = 0u; first < count; first += ${staged}u) {
      workgroupBarrier();
      for (var i = lane; i < min(count - first, ${staged}u) * ${chunks}u; i += ${width}u) {
        let position = first + i / ${chunks}u;
        let c = i % ${chunks}u;
        let slot = position % ${BLOCK_SLOTS}u;
        let vPlane = (tables[item.table + (split + position) / ${BLOCK_SLOTS}u] * ${2 * kvHeads}u + ${kvHeads}u + kvHead) * ${kv.planeElements}u;
        ${loadChunk(kv, 'v', `vPlane + slot * ${kv.rowElements}u + c * ${kv.perChunk}u`)}
        let to = i * ${CHUNK}u;
        ${each(4, (d) => `values[to + ${d}u] = vA[${d}]; values[to + ${d + 4}u] = vB[${d}];`)}
        ${
          kv.most
            ? `if (c == 0u) {
          let vScale = ${loadScale(kv, 'vPlane', 'slot')};
          ${eachHead((h) => `scores[${h * CONTEXT_SPLIT}u + position] *= vScale;`)}
        }`
            : ''
        }
      }
      workgroupBarrier();
      for (var position = first; position < min(count, first + ${staged}u); position += ${CONTEXT_TILE}u) {
        let tile = position / ${CONTEXT_TILE}u;
        let limit = min(count - position, ${CONTEXT_TILE}u);
${eachItem((i) => `        mixed${i} *= keeps[head${i} * ${TILES}u + tile];`)}
        if (limit == ${CONTEXT_TILE}u) {
          for (var j = 0u; j < ${CONTEXT_TILE}u; j++) {
${eachItem((i) => `            mixed${i} = fma(scores[head${i} * ${CONTEXT_SPLIT}u + position + j], values[(position - first + j) * ${headDim}u + dim${i}], mixed${i});`)}
          }
        } else {
          for (var j = 0u; j < limit; j++) {
${eachItem((i) => `            mixed${i} = fma(scores[head${i} * ${CONTEXT_SPLIT}u + position + j], values[(position - first + j) * ${headDim}u + dim${i}], mixed${i});`)}
          }
        }
      }
    }
${eachItem(
  (i) => `    let most${i} = tops[head${i} * ${TILES}u + tiles - 1u];
    let of${i} = head${i} * ${LANES}u;
    let sum${i} = ((sums[of${i}] + sums[of${i} + 4u]) + (sums[of${i} + 2u] + sums[of${i} + 6u])) + ((sums[of${i} + 1u] + sums[of${i} + 5u]) + (sums[of${i} + 3u] + sums[of${i} + 7u]));
    let peak${i} = max(top${i}, most${i});
    let before${i} = exp(top${i} - peak${i}); let now${i} = exp(most${i} - peak${i});
    top${i} = peak${i};
    total${i} = fma(total${i}, before${i}, sum${i} * now${i});
    all${i} = fma(all${i}, before${i}, mixed${i} * now${i});`,
)}
    workgroupBarrier();
  }
${stored ? storeRow : eachItem(storeItem)}
}
`;
}
