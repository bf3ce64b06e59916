// out[token, row] = Σ_k weight[row, k] · x[token, k], one lane for eight rows and `columns` tokens.
//
// Each sum runs over blocks of 32 columns in ascending order, by explicit fma, and never across lanes: so the bits of a result depend
// on nothing but its row and its token, whatever `columns` or the number of tokens is (tested). Arithmetic by kind and activations:
//   int8 × q4, q8: exact integer dots of a block, two 16-bit products per 32-bit multiply (SWAR), then acc += d·(da·H) + m·(da·Σa).
//     The word q = qh·2^16 + ql times x = a0·2^16 + a1 has ql·a0 + qh·a1 in its upper half; starting the sum at -(bias·Σx) removes the bias
//     of q, and keeps |sum| of a block below 2^15: 32·8·127 for q4; q8 splits a = 16h + l with |h|, |l| ≤ 8, 32·127·8.
//   f32 × any: products in f32, summed within the block first, then scaled.
// Activations come as wgsl/quantize lays them out: per token and block 5 vec4u (int8) or 8 vec4f (f32).
import { hasScales, LANE_GROUP, PARTS, ROWS_PER_LANE, type WeightKind } from './layout.ts';

export type Activations = 'int8' | 'f32';

export interface MatmulVariant {
  kind: WeightKind;
  activations: Activations;
  /** Tokens per lane: weights are loaded once for all of them. */
  columns: 1 | 4;
  /** `uniform`: ten windows of at most 64 KiB; `storage`: the tile as one storage buffer. */
  weights: 'uniform' | 'storage';
  /** x fits the uniform window of a group of 16 tokens. */
  x: 'uniform' | 'storage';
  /** Lanes of a subgroup when one load of x can be shared by broadcast, otherwise null. */
  subgroup: 8 | 4 | null;
}

/** vec4 per token and block of x. */
export const X_PARTS: Record<Activations, number> = { int8: 5, f32: 8 };

/** Tokens that share one dynamic offset of x and out. 16 · 80 bytes is a multiple of 256 for any number of blocks. */
export const TOKEN_GROUP = 16;

export const workgroupLanes = (variant: MatmulVariant): number => (variant.weights === 'uniform' ? LANE_GROUP : 64);

export const variantLabel = (v: MatmulVariant): string =>
  `matmul ${v.kind} ${v.activations} ${v.columns} ${v.weights} x-${v.x} subgroup-${v.subgroup ?? 'none'}`;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const lines = (count: number, line: (index: number) => string): string => range(count).map(line).join('\n');

export function matmulShader(variant: MatmulVariant): string {
  const { kind, activations, columns, subgroup } = variant;
  const uniform = variant.weights === 'uniform';
  const scaled = hasScales(kind);
  const parts = PARTS[kind];
  const xParts = X_PARTS[activations];
  const rows = range(ROWS_PER_LANE);
  const cols = range(columns);

  const quant = (row: number, part: number): string =>
    uniform
      ? `w${row}[quantAt + ${part * LANE_GROUP}u]`
      : `tile[${row}u * p.windowStride + quantAt + ${part * LANE_GROUP}u]`;
  const scale = (half: number): string =>
    uniform ? `s${half}[scaleAt]` : `tile[8u * p.windowStride + ${half}u * p.scaleStride + scaleAt]`;

  const bindings = uniform
    ? [
        lines(8, (row) => `@group(0) @binding(${row}) var<uniform> w${row}: array<vec4u, 4096>;`),
        scaled ? lines(2, (half) => `@group(0) @binding(${8 + half}) var<uniform> s${half}: array<vec4u, 4096>;`) : '',
      ].join('\n')
    : '@group(0) @binding(0) var<storage, read> tile: array<vec4u>;';
  const xSpace = variant.x === 'uniform' ? 'var<uniform> x: array<vec4u, 4096>' : 'var<storage, read> x: array<vec4u>';

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
@group(0) @binding(10) ${xSpace};                                // [token][block][${xParts}]
@group(0) @binding(11) var<storage, read_write> out: array<vec4f>;  // [token][outStride / 4]
@group(0) @binding(12) var<uniform> p: Params;

@compute @workgroup_size(${workgroupLanes(variant)})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) local: u32${
    subgroup ? ', @builtin(subgroup_invocation_id) sub: u32' : ''
  }) {
  let lane = workgroup.x * ${workgroupLanes(variant)}u + local;
  ${uniform ? '' : 'if (lane >= p.lanes) { return; }'}
  let token = workgroup.y * ${columns}u;
${lines(columns, (c) => lines(8, (r) => `  var acc${r}_${c} = 0.0;`))}
  let laneBase = (lane / ${LANE_GROUP}u) * p.blocks;
  for (var block = 0u; block < p.blocks; block++) {
    let quantAt = (laneBase + block) * ${parts * LANE_GROUP}u + lane % ${LANE_GROUP}u;
    ${scaled ? `let scaleAt = (laneBase + block) * ${LANE_GROUP}u + lane % ${LANE_GROUP}u;\n    let scaleA = ${scale(0)};\n    let scaleB = ${scale(1)};` : ''}
${cols.map((c) => loadX(variant, c)).join('\n')}
${rows.map((r) => rowProduct(variant, r, cols, (part) => quant(r, part))).join('\n')}
  }
  let row = p.firstRow + lane * ${ROWS_PER_LANE}u;
  if (row < p.endRow) {
${cols
  .map(
    (c) => `    let at${c} = ((token + ${c}u) * p.outStride + row) / 4u;
    out[at${c}] = vec4f(acc0_${c}, acc1_${c}, acc2_${c}, acc3_${c});
    out[at${c} + 1u] = vec4f(acc4_${c}, acc5_${c}, acc6_${c}, acc7_${c});`,
  )
  .join('\n')}
  }
}
`;
}

/** Brings x of one token and block into vec4 x{c}_0.. (words or floats) and, for int8, start{c}, da{c} and daSum{c}. */
function loadX({ activations, subgroup, kind }: MatmulVariant, c: number): string {
  const base = `    let xAt${c} = ((token + ${c}u) * p.blocks + block) * ${X_PARTS[activations]}u;`;
  const vectors = activations === 'int8' ? 4 : 8;
  const direct = (i: number): string => `x[xAt${c} + ${i}u]`;
  const out = [base];
  if (subgroup === 8) {
    const last = activations === 'int8' ? 'min(sub, 4u)' : 'sub';
    out.push(`    let own${c} = x[xAt${c} + ${last}];`);
    for (let i = 0; i < vectors; i++) out.push(`    let x${c}_${i} = subgroupBroadcast(own${c}, ${i}u);`);
  } else if (subgroup === 4) {
    for (let half = 0; half * 4 < vectors; half++)
      out.push(`    let own${c}_${half} = x[xAt${c} + ${half * 4}u + sub];`);
    for (let i = 0; i < vectors; i++) out.push(`    let x${c}_${i} = subgroupBroadcast(own${c}_${i >> 2}, ${i & 3}u);`);
  } else {
    for (let i = 0; i < vectors; i++) out.push(`    let x${c}_${i} = ${direct(i)};`);
  }
  if (activations === 'int8') {
    out.push(`    let meta${c} = ${subgroup === 8 ? `subgroupBroadcast(own${c}, 4u)` : direct(4)};`);
    out.push(`    let da${c} = bitcast<f32>(meta${c}.y);`, `    let daSum${c} = bitcast<f32>(meta${c}.z);`);
    if (kind === 'q4') out.push(`    let start${c} = 0u - 0x00080008u * meta${c}.x;`);
    else out.push(splitX(c));
  } else {
    for (let i = 0; i < vectors; i++) out.push(`    let f${c}_${i} = bitcast<vec4f>(x${c}_${i});`);
    if (kind === 'q4') {
      const sum = range(8)
        .map((i) => `f${c}_${i}`)
        .join(' + ');
      out.push(`    let quarter${c} = ${sum};`);
      out.push(`    let sum${c} = (quarter${c}.x + quarter${c}.y) + (quarter${c}.z + quarter${c}.w);`);
    }
  }
  return out.join('\n');
}

/** a = 16h + l with h = (a + 8) >> 4, for both halves of each word; words stay h0·2^16 + h1 and l0·2^16 + l1. */
function splitX(c: number): string {
  const out: string[] = [];
  for (let i = 0; i < 4; i++) {
    out.push(
      `    let v${c}_${i} = bitcast<vec4i>(x${c}_${i});`,
      `    let second${c}_${i} = (v${c}_${i} << vec4u(16u)) >> vec4u(16u);`,
      `    let first${c}_${i} = (v${c}_${i} - second${c}_${i}) >> vec4u(16u);`,
      `    let h${c}_${i} = bitcast<vec4u>((((first${c}_${i} + 8) >> vec4u(4u)) << vec4u(16u)) + ((second${c}_${i} + 8) >> vec4u(4u)));`,
      `    let l${c}_${i} = x${c}_${i} - (h${c}_${i} << vec4u(4u));`,
    );
  }
  out.push(
    `    let hAll${c} = h${c}_0 + h${c}_1 + h${c}_2 + h${c}_3;`,
    `    let hSum${c} = hAll${c}.x + hAll${c}.y + hAll${c}.z + hAll${c}.w;`,
    `    let startH${c} = 0u - 0x00800080u * hSum${c};`,
    `    let startL${c} = 0u - 0x00800080u * (meta${c}.x - 16u * hSum${c});`,
  );
  return out.join('\n');
}

const AXIS = ['x', 'y', 'z', 'w'] as const;

/** Adds one row's block product to acc{row}_{c} of every column. */
function rowProduct(
  { kind, activations }: MatmulVariant,
  row: number,
  cols: number[],
  quant: (part: number) => string,
): string {
  const out: string[] = ['    {'];
  for (let part = 0; part < PARTS[kind]; part++) out.push(`      let q${part} = ${quant(part)};`);
  if (hasScales(kind)) out.push(`      let dm = unpack2x16float(scale${row < 4 ? 'A' : 'B'}.${AXIS[row & 3]});`);
  const finish = (c: number, product: string): void => {
    const acc = `acc${row}_${c}`;
    const offset = kind === 'q4' ? `fma(dm.y, ${activations === 'int8' ? `daSum${c}` : `sum${c}`}, ${acc})` : acc;
    if (hasScales(kind)) out.push(`      ${acc} = fma(dm.x, ${product}, ${offset});`);
    else out.push(`      ${acc} = ${acc} + ${product};`);
  };
  if (activations === 'int8') {
    if (kind === 'q4') {
      for (let word = 0; word < 4; word++)
        for (let pair = 0; pair < 4; pair++)
          out.push(`      let n${word}${pair} = (q0.${AXIS[word]} >> ${4 * pair}u) & 0x000F000Fu;`);
      for (const c of cols) {
        const terms = range(16).map((i) => `n${i >> 2}${i & 3} * x${c}_${i >> 2}.${AXIS[i & 3]}`);
        out.push(`      let s${c} = start${c} + ${terms.join(' + ')};`);
        finish(c, `da${c} * f32((bitcast<i32>(s${c}) + 0x8000) >> 16u)`);
      }
    } else {
      for (let i = 0; i < 16; i++)
        out.push(`      let b${i} = (q${i >> 3}.${AXIS[(i >> 1) & 3]} >> ${8 * (i & 1)}u) & 0x00FF00FFu;`);
      for (const c of cols) {
        const dot = (name: string): string =>
          range(16)
            .map((i) => `b${i} * ${name}${c}_${i >> 2}.${AXIS[i & 3]}`)
            .join(' + ');
        out.push(`      let sh${c} = bitcast<i32>(startH${c} + ${dot('h')});`);
        out.push(`      let sl${c} = bitcast<i32>(startL${c} + ${dot('l')});`);
        finish(c, `da${c} * f32((((sh${c} + 0x8000) >> 16u) << 4u) + ((sl${c} + 0x8000) >> 16u))`);
      }
    }
  } else {
    for (let i = 0; i < 16; i++) out.push(`      let e${i} = ${pairValue(kind, i)};`);
    for (const c of cols) {
      out.push(`      var s${c} = 0.0;`);
      for (let i = 0; i < 16; i++) {
        const vector = `f${c}_${i >> 1}`;
        const [first, second] = i & 1 ? ['z', 'w'] : ['x', 'y'];
        out.push(`      s${c} = fma(e${i}.x, ${vector}.${first}, fma(e${i}.y, ${vector}.${second}, s${c}));`);
      }
      finish(c, `s${c}`);
    }
  }
  out.push('    }');
  return out.join('\n');
}

/** Elements 2i and 2i+1 of a block as vec2f, without scale. */
function pairValue(kind: WeightKind, i: number): string {
  if (kind === 'q4') {
    const word = `q0.${AXIS[i >> 2]}`;
    const shift = 4 * (i & 3);
    return `vec2f(f32((${word} >> ${shift}u) & 15u), f32((${word} >> ${shift + 16}u) & 15u)) - 8.0`;
  }
  if (kind === 'q8') {
    const word = `q${i >> 3}.${AXIS[(i >> 1) & 3]}`;
    const shift = 8 * (i & 1);
    return `vec2f(f32((${word} >> ${shift}u) & 255u), f32((${word} >> ${shift + 16}u) & 255u)) - 128.0`;
  }
  if (kind === 'f16') return `unpack2x16float(q${i >> 2}.${AXIS[i & 3]})`;
  return `bitcast<vec2f>(q${i >> 1}.${i & 1 ? 'zw' : 'xy'})`;
}
