// What a lane does with a block of 32 columns: brings x of its tokens into registers, then adds each row's product to its accumulators.
//
// Int8 products are SWAR: the word q = qh·2^16 + ql times x = a0·2^16 + a1 has ql·a0 + qh·a1 in its upper half, so one 32-bit multiply does a
// pair. A sum starts at -(bias·Σx), which removes the bias of q, and must stay below 2^15 in both halves to be exact:
//   q4, q4k: 32 elements · 8 · 127        one sum a block
//   q5k:     16 elements · 16 · 127       two sums
//   q6k:      8 elements · 32 · 127       four sums; each two times their half's scale: below 2^24, exact as f32
//   q8:      a = 16h + l, |h|, |l| ≤ 8: 32 elements · 127 · 8, one sum with each
import { hasScales, type WeightKind } from './layout.ts';
import { AXIS, BIAS, type Load, loadQuants, loadScale, pairFields, pairValues } from './quants.ts';
import { type MatmulVariant, X_PARTS } from './variant.ts';

const PAIRS = 16;
/** SWAR sums that a block of these kinds needs. */
const SUMS = { q4: 1, q4k: 1, q5k: 2, q6k: 4 } as const;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}u`;
/** A bias in both fields of a pair. */
const inBoth = (bias: number): string => hex(bias * 0x10001);

/** Brings x of one token and block into vec4 x{c}_0.. (words or floats) and, for int8, the starts of its sums, da{c} and daSum{c}. */
export function loadX({ activations, subgroup, kind }: MatmulVariant, c: number): string {
  const vectors = activations === 'int8' ? 4 : 8;
  // One load of the whole block per subgroup.
  const shared = subgroup !== null && subgroup >= 8;
  const direct = (i: number): string => `x[xAt${c} + ${i}u]`;
  const out = [`    let xAt${c} = ((token + ${c}u) * p.blocks + block) * ${X_PARTS[activations]}u;`];
  if (shared) {
    const last = activations === 'int8' ? 'min(sub, 4u)' : 'sub % 8u';
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
    out.push(`    let meta${c} = ${shared ? `subgroupBroadcast(own${c}, 4u)` : direct(4)};`);
    out.push(`    let da${c} = bitcast<f32>(meta${c}.y);`, `    let daSum${c} = bitcast<f32>(meta${c}.z);`);
    out.push(...starts(kind, c));
  } else {
    for (let i = 0; i < vectors; i++) out.push(`    let f${c}_${i} = bitcast<vec4f>(x${c}_${i});`);
    if (hasOffset(kind)) {
      const sum = range(8)
        .map((i) => `f${c}_${i}`)
        .join(' + ');
      out.push(`    let quarter${c} = ${sum};`);
      out.push(`    let sum${c} = (quarter${c}.x + quarter${c}.y) + (quarter${c}.z + quarter${c}.w);`);
    }
  }
  return out.join('\n');
}

/** start{c}_{sum}: -(bias · Σ of the words that the sum takes). */
function starts(kind: WeightKind, c: number): string[] {
  if (kind === 'q8') return [splitX(c)];
  const sums = SUMS[kind as keyof typeof SUMS];
  const bias = inBoth(BIAS[kind as keyof typeof SUMS]);
  if (sums === 1) return [`    let start${c}_0 = 0u - ${bias} * meta${c}.x;`];
  return range(sums).flatMap((sum) => {
    const vectors = range(4 / sums).map((i) => `x${c}_${(4 / sums) * sum + i}`);
    return [
      `    let part${c}_${sum} = ${vectors.join(' + ')};`,
      `    let start${c}_${sum} = 0u - ${bias} * ((part${c}_${sum}.x + part${c}_${sum}.y) + (part${c}_${sum}.z + part${c}_${sum}.w));`,
    ];
  });
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
    `    let startH${c} = 0u - ${inBoth(BIAS.q8)} * hSum${c};`,
    `    let startL${c} = 0u - ${inBoth(BIAS.q8)} * (meta${c}.x - 16u * hSum${c});`,
  );
  return out.join('\n');
}

export const hasOffset = (kind: WeightKind): boolean => kind === 'q4' || kind === 'q4k' || kind === 'q5k';

/** What becomes of a row's products of a block: `dm` is in scope where the kind has scales. */
export interface Products {
  /** Statements for the row as a whole, if any, and for column c. */
  row: string[];
  column: (c: number, value: string) => string;
}

/** WGSL: acc with a block's product added; `sum`: of the token's block, for kinds with an offset. */
export function added(kind: WeightKind, acc: string, dm: string, value: string, sum: string): string {
  if (!hasScales(kind)) return `${acc} + ${value}`;
  return `fma(${dm}.x, ${value}, ${hasOffset(kind) ? `fma(${dm}.y, ${sum}, ${acc})` : acc})`;
}

/** What of a token's block an offset is scaled with. */
export const blockSum = (activations: MatmulVariant['activations'], c: number): string =>
  activations === 'int8' ? `daSum${c}` : `sum${c}`;

/** Adds one row's block product to acc{row}_{c} of every column. */
export const toAccumulators = ({ kind, activations }: MatmulVariant, row: number): Products => ({
  row: [],
  column: (c, value) => `acc${row}_${c} = ${added(kind, `acc${row}_${c}`, 'dm', value, blockSum(activations, c))};`,
});

/**
 * One row's products of a block with every column; `scale`, `superScale`: the row's words of them. Each pair is unpacked, given to all columns,
 * and dead: sixteen of them at once would not fit the registers of a processor that has sixteen.
 */
export function rowProduct(
  variant: MatmulVariant,
  load: Load,
  scale: string,
  superScale: string,
  products: Products,
): string {
  const { kind, activations, columns } = variant;
  const dot = activations === 'int8' ? intDot(kind) : floatDot(kind);
  const out = ['    {', ...loadQuants(kind, load)];
  if (hasScales(kind)) out.push(...loadScale(kind, scale, superScale));
  out.push(...products.row);
  for (let c = 0; c < columns; c++) out.push(...dot.begin(c));
  for (let i = 0; i < PAIRS; i++) {
    if (kind in BIAS) out.push(`let n${i} = ${pairFields(kind as keyof typeof BIAS, i)};`);
    if (activations === 'f32') out.push(`let e${i} = ${pairValues(kind, i, `n${i}`)};`);
    for (let c = 0; c < columns; c++) out.push(...dot.add(c, i));
  }
  for (let c = 0; c < columns; c++) out.push(products.column(c, dot.value(c)));
  out.push('}');
  return out.join('\n      ');
}

/** A dot of a block with column c: statements that begin it and add pair i, and the expression of what it comes to. */
interface Dot {
  begin(c: number): string[];
  add(c: number, i: number): string[];
  value(c: number): string;
}

/** Word i of a column's vec4 `${x}_0` to `${x}_3`. */
const word = (x: string, i: number): string => `${x}_${i >> 2}.${AXIS[i & 3]}`;

/** What a SWAR sum holds: its upper half, rounded by what the lower one carries. */
const upper = (sum: string): string => `((bitcast<i32>(${sum}) + 0x8000) >> 16u)`;

/** da · Σ q·a. */
function intDot(kind: WeightKind): Dot {
  if (kind === 'q8')
    return {
      begin: (c) => [`var high${c} = startH${c};`, `var low${c} = startL${c};`],
      add: (c, i) => [`high${c} += n${i} * ${word(`h${c}`, i)};`, `low${c} += n${i} * ${word(`l${c}`, i)};`],
      value: (c) => `da${c} * f32((${upper(`high${c}`)} << 4u) + ${upper(`low${c}`)})`,
    };
  const sums = SUMS[kind as keyof typeof SUMS];
  const sumOf = (i: number): number => Math.floor((i * sums) / PAIRS);
  return {
    begin: (c) => range(sums).map((sum) => `var s${c}_${sum} = start${c}_${sum};`),
    add: (c, i) => [`s${c}_${sumOf(i)} += n${i} * ${word(`x${c}`, i)};`],
    value: (c) => {
      const parts = range(sums).map((sum) => upper(`s${c}_${sum}`));
      const total =
        kind === 'q6k' ? `(${parts[0]} + ${parts[1]}) * sub0 + (${parts[2]} + ${parts[3]}) * sub1` : parts.join(' + ');
      return `da${c} * f32(${total})`;
    },
  };
}

/** Σ q·x in f32, pairs in ascending order within each fma chain; q6k: of each half, times its scale. */
function floatDot(kind: WeightKind): Dot {
  const sums = kind === 'q6k' ? 2 : 1;
  return {
    begin: (c) => range(sums).map((sum) => `var s${c}_${sum} = 0.0;`),
    add: (c, i) => {
      const sum = `s${c}_${Math.floor((i * sums) / PAIRS)}`;
      const vector = `f${c}_${i >> 1}`;
      const [first, second] = i & 1 ? ['z', 'w'] : ['x', 'y'];
      return [`${sum} = fma(e${i}.x, ${vector}.${first}, fma(e${i}.y, ${vector}.${second}, ${sum}));`];
    },
    value: (c) => (kind === 'q6k' ? `fma(f32(sub1), s${c}_1, f32(sub0) * s${c}_0)` : `s${c}_0`),
  };
}
