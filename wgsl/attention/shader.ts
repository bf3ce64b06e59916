// Causal attention of query rows over their sequence's KV blocks: flash form (online softmax, arXiv 2205.14135) over tiles of 16
// positions anchored at position 0, closed every 512 positions and merged in ascending order. The bits therefore depend on q, the KV and
// the position alone: not on how the prompt was chunked, on the batch, or on which variant below computed them.
//
// A unit of work is 8 lanes: up to `rows` consecutive rows of one sequence, for up to 4 query heads of one KV head. Rows share every load.
//
//   scores: lane = position, each lane reads its own k      values: lane = chunk of 8 dims, every lane reads every v
//
// The exchange between the two goes through the subgroup or through workgroup memory; sums have the same order in both. A workgroup
// has `units` of them side by side, for other heads of the same rows, so that they loop in step.
import { CHUNK, type KvFormat, kvLayout, loadChunk, loadScale } from '../kv/format.ts';
import type { Activations } from '../matmul/variant.ts';
import { subgroupExchange, workgroupExchange } from './exchange.ts';
import { partialElements } from './merge.ts';
import { ATTENTION_LANES, CONTEXT_SPLIT, CONTEXT_TILE, headsPerUnit, type KvShape, spansOf } from './shape.ts';
import { spreadShader } from './spread.ts';

export interface AttentionVariant {
  format: KvFormat;
  /** Query rows that share a unit's loads. */
  rows: number;
  /**
   * How the lanes of a unit see each other's values. A subgroup has to hold the whole workgroup. `spread`: a unit's work is spread over the whole
   * workgroup, row by row (spread.ts).
   */
  exchange: 'subgroup' | 'workgroup' | 'spread';
  /** Units per workgroup, or as many times the lanes of one. */
  units: number;
  /**
   * Where splits of the context are merged: `within` the unit, which goes through all of them, or `apart` (merge.ts), with a workgroup for
   * each: worth it where a decode alone would leave a GPU idle. Both merge in ascending order, and give the same bits.
   */
  splits: 'within' | 'apart';
}

const LANES = ATTENTION_LANES;
const HALVES = CONTEXT_TILE / LANES; // positions of a tile per lane

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const each = (count: number, line: (index: number) => string): string => range(count).map(line).join('\n');

/** `into`: what comes out, where splits are not apart. */
export function attentionLabel(variant: AttentionVariant, into: Activations | null = null): string {
  const { format, rows, exchange, units, splits } = variant;
  const end = into && splits === 'within' ? ` into ${into}` : '';
  return `attention ${format} rows ${rows} ${exchange} units ${units} splits ${splits}${end}`;
}

/** Workgroups along x for every work item. */
export function attentionWorkgroups(shape: KvShape, { exchange, units }: AttentionVariant): number {
  const all = shape.heads / headsPerUnit(shape);
  return exchange === 'spread' ? all : Math.ceil(all / units);
}

/** `into`: of `spread` alone. */
export function attentionShader(shape: KvShape, variant: AttentionVariant, into: Activations | null = null): string {
  return variant.exchange === 'spread' ? spreadShader(shape, variant, into) : unitsShader(shape, variant);
}

function unitsShader(shape: KvShape, variant: AttentionVariant): string {
  const { heads, kvHeads, headDim } = shape;
  const { rows, units } = variant;
  const kv = kvLayout(variant.format, headDim);
  const size = headsPerUnit(shape);
  const pairs = rows * size; // a query row of one head each, row by row
  const chunks = headDim / CHUNK;
  const unitsInUse = heads / size;
  const unroll = rows === 1 ? 2 : 1; // positions of v per iteration: a second one is worth its compile time for a single row only
  const share = variant.exchange === 'subgroup' ? subgroupExchange(pairs) : workgroupExchange(pairs, units, chunks);
  const eachPair = (line: (pair: number) => string): string => each(pairs, line);
  const eachSpan = (line: (span: number) => string): string => each(spansOf(shape), line);
  const eachHalf = (line: (half: number) => string): string => each(HALVES, line);
  /** The chunk of a lane; lanes past the head's end read the last one and write nothing. */
  const chunkOf = (span: number): string => {
    const at = `lane + ${span * LANES}u`;
    return (span + 1) * LANES <= chunks ? at : `min(${at}, ${chunks - 1}u)`;
  };

  // Loads of q and stores of out stand once each, in a loop over pairs that chooses among registers: a software adapter makes a loop
  // over lanes of every load, and as many of them as there are pairs would take its compiler seconds.
  const loadQuery = (span: number): string => {
    const keep = share.keepQuery(span);
    return `${keep.before}
  for (var p = 0u; p < item.rows * ${size}u; p++) {
    let at = (token + p / ${size}u) * ${((heads + 2 * kvHeads) * headDim) / 4}u + (firstHead + p % ${size}u) * ${headDim / 4}u + 2u * (${chunkOf(span)});
    let qA = qkv[at]; let qB = qkv[at + 1u];
    ${keep.within}
  }
  ${keep.after}`;
  };
  const apart = variant.splits === 'apart';
  const store = (span: number): string =>
    apart
      ? `let at = (((workgroup.y * ${rows}u + p / ${size}u) * ${heads}u + head) * splits.z + workgroup.z) * ${partialElements(shape)}u;
      out[at + 2u * part] = A; out[at + 2u * part + 1u] = B;
      ${span === 0 ? `if (lane == 0u) { out[at + ${2 * chunks}u] = vec4f(top, total, 0.0, 0.0); }` : ''}`
      : `let at = ((token + p / ${size}u) * ${heads}u + head) * ${headDim / 4}u + 2u * part;
      out[at] = A / total; out[at + 1u] = B / total;`;
  const storeOut = (span: number): string => `
  if (workgroup.x * ${units}u + unit < ${unitsInUse}u && lane + ${span * LANES}u < ${chunks}u) {
    for (var p = 0u; p < item.rows * ${size}u; p++) {
      var top = top0; var total = total0; var A = A0_${span}; var B = B0_${span};
${eachPair((p) =>
  ['top', 'total', 'A', 'B']
    .map((name) => `${name} = select(${name}, ${name}${p}${name.length === 1 ? `_${span}` : ''}, p == ${p}u);`)
    .join(' '),
)}
      let part = lane + ${span * LANES}u;
      let head = firstHead + p % ${size}u;
      ${store(span)}
    }
  }`;

  const scores = (span: number): string => `
    for (var c = 0u; c < ${Math.min(LANES, chunks - span * LANES)}u + zero; c++) {
${eachHalf((h) => loadChunk(kv, `k${h}`, `kPlane + (lane + ${h * LANES}u) * ${kv.rowElements}u + (c + ${span * LANES}u) * ${kv.perChunk}u`))}
${eachPair(
  (p) => `let c${p} = ${share.query(p, 'A', span)}; let d${p} = ${share.query(p, 'B', span)};
${eachHalf((h) => {
  const [s, a, b] = [`s${h}_${p}`, `k${h}A`, `k${h}B`];
  return `${s} = fma(c${p}.x, ${a}.x, fma(c${p}.y, ${a}.y, fma(c${p}.z, ${a}.z, fma(c${p}.w, ${a}.w, ${s}))));
${s} = fma(d${p}.x, ${b}.x, fma(d${p}.y, ${b}.y, fma(d${p}.z, ${b}.z, fma(d${p}.w, ${b}.w, ${s}))));`;
})}`,
)}
    }`;
  const scale = (plane: string, half: number): string => loadScale(kv, plane, `(lane + ${half * LANES}u)`);
  const mask = (p: number, h: number): string =>
    `lane + ${h * LANES}u + first <= item.position + ${Math.floor(p / size)}u`;
  const softmax = `
${eachHalf((h) => (kv.most ? `let kScale${h} = ${scale('kPlane', h)};` : ''))}
${eachPair((p) => eachHalf((h) => `let t${h}_${p} = select(-3.0e38, s${h}_${p}${kv.most ? ` * kScale${h}` : ''}, ${mask(p, h)});`))}
${eachPair((p) => `var peak${p} = max(t0_${p}, t1_${p});`)}
${share.reduce('peak', (a, b) => `max(${a}, ${b})`)}
${eachPair(
  (p) => `let next${p} = max(most${p}, peak${p});
let keep${p} = exp(most${p} - next${p});
most${p} = next${p};
var e0_${p} = exp(t0_${p} - next${p}); var e1_${p} = exp(t1_${p} - next${p});
sum${p} = fma(sum${p}, keep${p}, e0_${p} + e1_${p});
${eachSpan((j) => `a${p}_${j} *= keep${p}; b${p}_${j} *= keep${p};`)}`,
)}`;
  // Slots past the end may hold anything, even NaN: their v is never read, and their scale not used. An unrolled loop reads the last row
  // again, with a weight of zero.
  const values = `
${eachHalf((h) => (kv.most ? `let vScale${h} = select(0.0, ${scale('vPlane', h)}, lane + ${h * LANES}u < limit);\n${eachPair((p) => `e${h}_${p} *= vScale${h};`)}` : ''))}
${share.handWeights}
    for (var h = 0u; h < min(limit, ${CONTEXT_TILE}u + zero); h += ${LANES}u) {
${share.beforeWeights}
      for (var i = 0u; i < min(limit - h, ${LANES}u + zero); i += ${unroll}u) {
${each(unroll, (u) => `let row${u} = vPlane + ${u ? `min(h + i + ${u}u, limit - 1u)` : '(h + i)'} * ${kv.rowElements}u;\n${eachSpan((j) => loadChunk(kv, `v${u}_${j}`, `row${u} + (${chunkOf(j)}) * ${kv.perChunk}u`))}`)}
${eachPair((p) =>
  each(
    unroll,
    (u) => `let w${u}_${p} = ${share.weight(p, u)};
${eachSpan((j) => `a${p}_${j} = fma(vec4f(w${u}_${p}), v${u}_${j}A, a${p}_${j}); b${p}_${j} = fma(vec4f(w${u}_${p}), v${u}_${j}B, b${p}_${j});`)}`,
  ),
)}
      }
    }`;

  return `${share.enable}
struct Item { token: u32, rows: u32, table: u32, position: u32 }
@group(0) @binding(0) var<storage, read> qkv: array<vec4f>;           // [token][heads + 2 * kvHeads][headDim / 4], q rotated and scaled
@group(0) @binding(1) var<storage, read> arena: array<${kv.type}>;
@group(0) @binding(2) var<storage, read> items: array<Item>;          // token and position: of the first row
@group(0) @binding(3) var<storage, read> tables: array<u32>;          // block tables
@group(0) @binding(4) var<storage, read_write> out: array<vec4f>;     // [token][heads][headDim / 4]; or partials, see merge.ts
${share.declarations}

@compute @workgroup_size(${LANES * units})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(num_workgroups) splits: vec3u, @builtin(local_invocation_index) invocation: u32) {
  let lane = invocation % ${LANES}u;
  let unit = invocation / ${LANES}u;
  ${share.prologue}
  let item = items[workgroup.y];
  let token = item.token;
  let firstHead = min(workgroup.x * ${units}u + unit, ${unitsInUse - 1}u) * ${size}u;   // a unit past the last repeats it and writes nothing
  let kvHead = firstHead / ${heads / kvHeads}u;
  let end = item.position + item.rows;
  ${apart ? `if (workgroup.z * ${CONTEXT_SPLIT}u >= end) { return; }` : ''}
  let zero = item.rows >> 31u;   // keeps the bounds of loops from a software adapter's compiler, which would unroll them for seconds
${eachSpan(loadQuery)}
${eachPair(
  (p) => `  var top${p} = -3.0e38; var total${p} = 0.0;
${eachSpan((j) => `  var A${p}_${j} = vec4f(0.0); var B${p}_${j} = vec4f(0.0);`)}`,
)}
  for (var split = ${apart ? `workgroup.z * ${CONTEXT_SPLIT}u` : '0u'}; split < ${apart ? `min(end, (workgroup.z + 1u) * ${CONTEXT_SPLIT}u)` : 'end'}; split += ${CONTEXT_SPLIT}u) {
${eachPair(
  (p) => `    var most${p} = -3.0e38; var sum${p} = 0.0;
${eachSpan((j) => `    var a${p}_${j} = vec4f(0.0); var b${p}_${j} = vec4f(0.0);`)}`,
)}
    for (var first = split; first < min(end, split + ${CONTEXT_SPLIT}u); first += ${CONTEXT_TILE}u) {
      let kPlane = (tables[item.table + first / ${CONTEXT_TILE}u] * ${2 * kvHeads}u + kvHead) * ${kv.planeElements}u;
      let vPlane = kPlane + ${kvHeads * kv.planeElements}u;
      let limit = end - first;
${eachPair((p) => eachHalf((h) => `var s${h}_${p} = 0.0;`))}
${eachSpan(scores)}
${softmax}
${values}
    }
${share.reduce('sum', (a, b) => `(${a} + ${b})`)}
${eachPair(
  (p) => `    let peak${p} = max(top${p}, most${p});
    let before${p} = exp(top${p} - peak${p}); let now${p} = exp(most${p} - peak${p});
    top${p} = peak${p};
    total${p} = fma(total${p}, before${p}, sum${p} * now${p});
${eachSpan((j) => `    A${p}_${j} = fma(A${p}_${j}, vec4f(before${p}), a${p}_${j} * now${p}); B${p}_${j} = fma(B${p}_${j}, vec4f(before${p}), b${p}_${j} * now${p});`)}`,
)}
  }
${eachSpan(storeOut)}
}
`;
}
