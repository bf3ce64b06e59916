// A row's blocks shared by several lanes ("sliced K"): each takes the products of every so many-th block, hands them over in workgroup memory, and a
// lane per row adds them in the order in which a single lane would have: the same operations, the same bits. A single lane waits for memory block
// by block, which is what a small matrix costs on a GPU.
//
// In workgroup memory rows are in order of window, then lane of the group, and a slice's are 8 words further than 64: what lanes write side by side
// lies in different banks, and so does what they read.
import { LANE_GROUP, ROWS_PER_LANE, TOKEN_GROUP } from './layout.ts';

/** Rows of a workgroup, and words from slice to slice. */
const ROWS = LANE_GROUP * ROWS_PER_LANE;
const STRIDE = ROWS + LANE_GROUP;

/** Blocks whose products are under way from workgroup memory at once; divides every number of slices. */
const AHEAD = 4;

/** Bytes of workgroup memory. */
export const slicedBytes = (slices: number, columns: number): number =>
  4 * (slices * (STRIDE * (2 + columns) + columns) + ROWS * columns);

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

export interface SlicedKernel {
  slices: number;
  columns: number;
  /** Whether rows have scales, and tokens an offset to be scaled (products.ts). */
  scaled: boolean;
  offset: boolean;
  /** WGSL: acc with a block's product added; of vec2 `dm`, f32 `value` and f32 `sum`. */
  added: (acc: string, dm: string, value: string, sum: string) => string;
}

export function slicedDeclarations({ slices, columns, scaled, offset }: SlicedKernel): string {
  return `
${scaled ? `var<workgroup> sliceScales: array<vec2f, ${slices * STRIDE}>;` : ''}
var<workgroup> sliceValues: array<f32, ${slices * STRIDE * columns}>;   // [column][slice][row]
${offset ? `var<workgroup> sliceSums: array<f32, ${slices * columns}>;` : ''}
var<workgroup> sliceTotals: array<f32, ${ROWS * columns}>;              // [column][lane of the group][window]`;
}

/** Statements that hand over what lane `inGroup` of `slice` has of a row (a window) or, `sums`, of a token. */
export const hand = {
  scale: (row: number): string => `sliceScales[slice * ${STRIDE}u + ${row * LANE_GROUP}u + inGroup] = dm;`,
  value: (slices: number, row: number, c: number, value: string): string =>
    `sliceValues[(slice + ${c * slices}u) * ${STRIDE}u + ${row * LANE_GROUP}u + inGroup] = ${value};`,
  sum: (columns: number, c: number, value: string): string => `sliceSums[slice * ${columns}u + ${c}u] = ${value};`,
};

/** The kernel's body between its indices and its epilogue: `block` of `slice` is in scope of `blockBody`, which hands over. */
export function slicedLoop(kernel: SlicedKernel, blockBody: string): string {
  const { slices, columns, scaled, offset, added } = kernel;
  const items = range(Math.ceil((ROWS * columns) / (LANE_GROUP * slices)));
  const sumOf = (item: number, ahead: number): string => {
    const b = `(b + ${ahead}u)`;
    const scale = scaled ? `sliceScales[${b} * ${STRIDE}u + row${item}]` : 'vec2f(1.0, 0.0)';
    const value = `sliceValues[(column${item} * ${slices}u + ${b}) * ${STRIDE}u + row${item}]`;
    const sum = offset ? `sliceSums[${b} * ${columns}u + column${item}]` : '0.0';
    return `total${item} = select(total${item}, ${added(`total${item}`, scale, value, sum)}, ${b} < count);`;
  };
  return `
${items
  .map(
    (item) => `  var total${item} = 0.0;
  let item${item} = min(local + ${item * LANE_GROUP * slices}u, ${ROWS * columns - 1}u);
  let row${item} = item${item} % ${ROWS}u;
  let column${item} = item${item} / ${ROWS}u;`,
  )
  .join('\n')}
  for (var first = 0u; first < p.blocks; first += ${slices}u) {
    let block = first + slice;
    if (block < p.blocks) {
${blockBody}
    }
    workgroupBarrier();
    // Past the last block there is nothing to add.
    let count = min(p.blocks - first, ${slices}u);
    for (var b = 0u; b < count; b += ${AHEAD}u) {
      ${range(AHEAD)
        .flatMap((ahead) => items.map((item) => sumOf(item, ahead)))
        .join('\n      ')}
    }
    workgroupBarrier();
  }
${items.map((item) => `  if (local + ${item * LANE_GROUP * slices}u < ${ROWS * columns}u) { sliceTotals[(column${item} * ${LANE_GROUP}u + row${item} % ${LANE_GROUP}u) * ${ROWS_PER_LANE}u + row${item} / ${LANE_GROUP}u] = total${item}; }`).join('\n')}
  workgroupBarrier();`;
}

/** Hands the sums to the epilogue: a lane for eight rows of a column. */
export const slicedEpilogue = (columns: number): string => {
  const at = (i: number): string => `sliceTotals[total + ${i}u]`;
  return `
  let column = min(local / ${LANE_GROUP}u, ${columns - 1}u);
  let total = (column * ${LANE_GROUP}u + inGroup) * ${ROWS_PER_LANE}u;
  let mine = live && local < ${LANE_GROUP * columns}u${TOKEN_GROUP % columns === 0 ? '' : ` && token + column < ${TOKEN_GROUP}u`};
  takeRows(local, mine, token + column, row, vec4f(${[0, 1, 2, 3].map(at).join(', ')}), vec4f(${[4, 5, 6, 7].map(at).join(', ')}));`;
};
