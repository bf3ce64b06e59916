// How the 8 lanes of a unit see each other's values: through their subgroup, or through workgroup memory where no subgroup holds a unit.
// Both give the same bits. Pairs are a unit's query rows of one head each; `${name}${pair}` is a variable of every lane.
import { ATTENTION_LANES } from './shape.ts';

export interface Exchange {
  /** WGSL at module scope, and at the start of the entry point, where `lane` and `unit` are known. */
  enable: string;
  declarations: string;
  prologue: string;
  /** Keeps chunk `lane + 8 · span` of pair p's query, which stands in qA and qB; within a loop over p. */
  keepQuery(span: number): { before: string; within: string; after: string };
  /** Expression: part A or B of the chunk that lane c, a WGSL variable, has kept. */
  query(pair: number, part: 'A' | 'B', span: number): string;
  /** Joins a variable over the lanes, in the order of a butterfly: lane 0 with 4, those with 2 and 6, then with the odd ones. */
  reduce(name: 'peak' | 'sum', join: (a: string, b: string) => string): string;
  /** Hands over e0_ and e1_, the weights of position lane and lane + 8; then, in a loop over i and h, the weight of position i + h. */
  handWeights: string;
  beforeWeights: string;
  weight(pair: number, ahead: number): string;
}

const LANES = ATTENTION_LANES;
const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => line(index)).join('\n');

/** Needs the whole workgroup in one subgroup. */
export function subgroupExchange(pairs: number): Exchange {
  return {
    enable: 'enable subgroups;',
    declarations: '',
    prologue: 'let base = invocation - lane;',
    // Registers can't be indexed: each takes its turn.
    keepQuery: (span) => ({
      before: lines(pairs, (p) => `var qA${p}_${span} = vec4f(0.0); var qB${p}_${span} = vec4f(0.0);`),
      within: lines(
        pairs,
        (p) =>
          `qA${p}_${span} = select(qA${p}_${span}, qA, p == ${p}u); qB${p}_${span} = select(qB${p}_${span}, qB, p == ${p}u);`,
      ),
      after: '',
    }),
    query: (pair, part, span) => `subgroupShuffle(q${part}${pair}_${span}, base + c)`,
    reduce: (name, join) =>
      [4, 2, 1]
        .map((mask) =>
          lines(pairs, (p) => `${name}${p} = ${join(`${name}${p}`, `subgroupShuffleXor(${name}${p}, ${mask}u)`)};`),
        )
        .join('\n'),
    handWeights: '',
    beforeWeights: lines(pairs, (p) => `let e${p} = select(e1_${p}, e0_${p}, h == 0u);`),
    weight: (pair, ahead) => `subgroupShuffle(e${pair}, base + i + ${ahead}u)`,
  };
}

/** Two barriers per tile: what one array hands over is read before the next barrier, and written again only after it. */
export function workgroupExchange(pairs: number, units: number, chunks: number): Exchange {
  const slot = (p: number): string => `(unit * ${pairs}u + ${p}u)`;
  const tree = (name: string, p: number, join: (a: string, b: string) => string, of: number[]): string =>
    of.length === 1
      ? `${name}s[${slot(p)} * ${LANES}u + ${of[0]}u]`
      : join(
          ...([0, 1].map((odd) =>
            tree(
              name,
              p,
              join,
              of.filter((_, i) => i % 2 === odd),
            ),
          ) as [string, string]),
        );
  return {
    enable: '',
    declarations: `
var<workgroup> query: array<vec4f, ${units * pairs * chunks * 2}>;
var<workgroup> peaks: array<f32, ${units * pairs * LANES}>;
var<workgroup> sums: array<f32, ${units * pairs * LANES}>;
var<workgroup> weights: array<f32, ${units * pairs * LANES * 2}>;`,
    prologue: '',
    keepQuery: (span) => ({
      before: '',
      within: `let to = ((unit * ${pairs}u + p) * ${chunks}u + min(lane + ${span * LANES}u, ${chunks - 1}u)) * 2u;
query[to] = qA; query[to + 1u] = qB;`,
      after: 'workgroupBarrier();',
    }),
    query: (pair, part, span) =>
      `query[(${slot(pair)} * ${chunks}u + ${span * LANES}u + c) * 2u + ${part === 'A' ? 0 : 1}u]`,
    reduce: (name, join) => `${lines(pairs, (p) => `${name}s[${slot(p)} * ${LANES}u + lane] = ${name}${p};`)}
workgroupBarrier();
${lines(pairs, (p) => `${name}${p} = ${tree(name, p, join, [0, 1, 2, 3, 4, 5, 6, 7])};`)}`,
    handWeights: `${lines(
      pairs,
      (p) =>
        `weights[${slot(p)} * ${2 * LANES}u + lane] = e0_${p}; weights[${slot(p)} * ${2 * LANES}u + ${LANES}u + lane] = e1_${p};`,
    )}
workgroupBarrier();`,
    beforeWeights: '',
    weight: (pair, ahead) => `weights[${slot(pair)} * ${2 * LANES}u + h + i + ${ahead}u]`,
  };
}
