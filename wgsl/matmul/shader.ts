// out[token, row] = Σ_k weight[row, k] · x[token, k], one lane for eight rows and `columns` tokens.
//
// Each sum runs over blocks of 32 columns in ascending order, by explicit fma, in one lane, whichever made the products (sliced.ts): so the bits of a
// result depend on nothing but its row and its token, whatever the variant or the number of tokens is (tested). Arithmetic by kind and activations:
//   int8 × quantised: exact integer dots of a block (products.ts), then acc += d·(da·H) + m·(da·Σa).
//   f32 × any: products in f32, summed within the block (q6k: within its halves of 16) first, then scaled.
// What becomes of a sum: epilogue.ts. Activations come as wgsl/quantize lays them out: per token and block 5 vec4u (int8) or 8 vec4f (f32).
import { type Epilogue, STORE } from './epilogue.ts';
import { hasScales, KINDS, LANE_GROUP, ROWS_PER_LANE, TOKEN_GROUP } from './layout.ts';
import { added, blockSum, hasOffset, loadX, rowProduct, toAccumulators } from './products.ts';
import { AXIS, blockIndices, superScaleIndex } from './quants.ts';
import { hand, type SlicedKernel, slicedDeclarations, slicedEpilogue, slicedLoop } from './sliced.ts';
import { type MatmulVariant, X_PARTS } from './variant.ts';

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

/** vec4 of weights that a lane of a GPU loads before it needs the first. */
const LOADS_AHEAD = 16;

export function matmulShader(variant: MatmulVariant, epilogue: Epilogue = STORE): string {
  const { kind, activations, columns, subgroup, lanes, slices } = variant;
  const sliced: SlicedKernel = {
    ...{ slices, columns, scaled: hasScales(kind), offset: hasOffset(kind) },
    added: (acc, dm, value, sum) => added(kind, acc, dm, value, sum),
  };
  const uniform = variant.weights === 'uniform';
  const scaled = hasScales(kind);
  const { span } = KINDS[kind];

  const quant = (row: number, at: string): string =>
    uniform ? `w${row}[${at}]` : `tile[${row}u * p.windowStride + ${at}]`;
  const scale = (half: number, at: string): string =>
    uniform ? `s${half}[${at}]` : `tile[8u * p.windowStride + ${half}u * p.scaleStride + ${at}]`;

  const bindings = uniform
    ? [
        lines(8, (row) => `@group(0) @binding(${row}) var<uniform> w${row}: array<vec4u, 4096>;`),
        scaled ? lines(2, (half) => `@group(0) @binding(${8 + half}) var<uniform> s${half}: array<vec4u, 4096>;`) : '',
      ].join('\n')
    : '@group(0) @binding(0) var<storage, read> tile: array<vec4u>;';
  const xSpace = variant.x === 'uniform' ? 'var<uniform> x: array<vec4u, 4096>' : 'var<storage, read> x: array<vec4u>';

  const product = (row: number): string => {
    const half = row < 4 ? 'A' : 'B';
    const axis = AXIS[row & 3];
    const products =
      slices === 1
        ? toAccumulators(variant, row)
        : {
            row: sliced.scaled ? [hand.scale(row)] : [],
            column: (c: number, value: string) => hand.value(slices, row, c, value),
          };
    return rowProduct(variant, (at) => load(row, at), `scale${half}.${axis}`, `super${half}.${axis}`, products);
  };
  // A GPU has the rows' loads under way together; the few registers of a software adapter are for one row at a time.
  const ahead: string[] = [];
  const load = (row: number, at: string): string => {
    if (uniform) return quant(row, at);
    const name = `ahead${row}_${ahead.length}`;
    ahead.push(`let ${name} = ${quant(row, at)};`);
    return name;
  };
  const rowsAhead = Math.max(1, Math.floor(LOADS_AHEAD / KINDS[kind].quantParts) * span);
  const groupsOfRows = (): string => {
    const out: string[] = [];
    for (let first = 0; first < ROWS_PER_LANE; first += rowsAhead) {
      ahead.length = 0;
      const rows = Array.from({ length: Math.min(rowsAhead, ROWS_PER_LANE - first) }, (_, i) => product(first + i));
      out.push(...ahead, ...rows);
    }
    return out.join('\n');
  };
  const blockBody = `    ${blockIndices(kind)}
    ${scaled ? `let scaleA = ${scale(0, 'scaleAt')};\n    let scaleB = ${scale(1, 'scaleAt')};` : ''}
${lines(columns, (c) => loadX(variant, c))}
${groupsOfRows()}`;
  const superScales =
    span === 1
      ? ''
      : `let superA = ${scale(0, superScaleIndex)};
    let superB = ${scale(1, superScaleIndex)};`;
  const sums = sliced.offset
    ? `if (inGroup == 0u) { ${lines(columns, (c) => hand.sum(columns, c, blockSum(activations, c)))} }`
    : '';
  const loop =
    slices > 1
      ? slicedLoop(
          sliced,
          `    let spanAt = laneBase + block / ${span}u;
    ${span === 1 ? '' : `let inner = block % ${span}u;\n    ${superScales}`}
${blockBody}
    ${sums}`,
        )
      : span === 1
        ? `  for (var block = 0u; block < p.blocks; block++) {
    let spanAt = laneBase + block;
${blockBody}
  }`
        : `  for (var span = 0u; span < p.blocks / ${span}u; span++) {
    let spanAt = laneBase + span;
    ${superScales}
    for (var inner = 0u; inner < ${span}u; inner++) {
    let block = span * ${span}u + inner;
${blockBody}
    }
  }`;

  return `${subgroup ? 'enable subgroups;' : ''}
struct Params {
  blocks: u32,        // columns / 32
  lanes: u32,         // lanes of this tile in use
  firstRow: u32,      // row of lane 0, window 0 in out
  endRow: u32,        // first row in out that is not this matrix's
  outStride: u32,     // rows of out per token
  windowStride: u32,  // vec4u from quant window to quant window (storage variant)
  scaleStride: u32,
}
${bindings}
@group(0) @binding(10) ${xSpace};                                // [token][block][${X_PARTS[activations]}]
@group(0) @binding(11) var<storage, read_write> out: array<${epilogue.outType}>;  // as the epilogue has it
@group(0) @binding(12) var<uniform> p: Params;
${epilogue.declarations(variant)}
${slices > 1 ? slicedDeclarations(sliced) : ''}

@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) local: u32${
    subgroup ? ', @builtin(subgroup_invocation_id) sub: u32' : ''
  }) {
  let lane = ${slices > 1 ? `workgroup.x * ${LANE_GROUP}u + local % ${LANE_GROUP}u` : `workgroup.x * ${lanes}u + local`};
  ${uniform || subgroup || epilogue.exchanges || slices > 1 ? '' : 'if (lane >= p.lanes) { return; }'}
  let token = workgroup.y * ${columns}u;
  let inGroup = lane % ${LANE_GROUP}u;
${slices > 1 ? `  let slice = local / ${LANE_GROUP}u;` : lines(columns, (c) => lines(ROWS_PER_LANE, (r) => `  var acc${r}_${c} = 0.0;`))}
  let laneBase = (lane / ${LANE_GROUP}u) * (p.blocks / ${span}u);
${loop}
  let row = p.firstRow + lane * ${ROWS_PER_LANE}u;
  let live = lane < p.lanes && row < p.endRow;
${slices > 1 ? slicedEpilogue(columns) : takeColumns(columns)}
}
`;
}

/**
 * Hands each column's sums to the epilogue. It stands once, in a loop that chooses among registers: a software adapter makes a loop over lanes of each
 * of its loads and stores, and its compiler takes seconds for four of them. Three columns don't divide a group: what they pad it with must not be
 * written, since some adapters write what is out of bounds over what is last.
 */
function takeColumns(columns: number): string {
  const sums = (c: number): string[] =>
    [0, 4].map((r) => `vec4f(acc${r}_${c}, acc${r + 1}_${c}, acc${r + 2}_${c}, acc${r + 3}_${c})`);
  if (columns === 1) return `  takeRows(local, live, token, row, ${sums(0).join(', ')});`;
  const within = TOKEN_GROUP % columns === 0 ? 'live' : `live && token + c < ${TOKEN_GROUP}u`;
  const choose = lines(columns - 1, (i) => {
    const [a, b] = sums(i + 1);
    return `    a = select(a, ${a}, c == ${i + 1}u); b = select(b, ${b}, c == ${i + 1}u);`;
  });
  const [a, b] = sums(0);
  return `  for (var c = 0u; c < ${columns}u + (p.blocks >> 31u); c++) {
    var a = ${a}; var b = ${b};
${choose}
    takeRows(local, ${within}, token + c, row, a, b);
  }`;
}
