// Causal attention of each token over its sequence's KV blocks: flash form (online softmax, arXiv 2205.14135) over tiles of 8 positions
// anchored at position 0 and merged in ascending order. The bits therefore depend on q, the KV and the position alone: not on how the
// prompt was chunked, nor on the batch. One workgroup of 8 lanes per token and KV head, for up to 4 query heads of its GQA group.
//
//   scores: lane = position, each lane reads its own k      values: lane = 8 dims of the head, every lane reads every v
// The exchange between the two is a broadcast (subgroups of 8) or workgroup memory (anything else); sums have the same order in both.

export interface KvShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  ropeDim: number;
}

export const ATTENTION_LANES = 8;
/** Query heads per workgroup: more would not fit in registers. */
export const MAX_GROUP = 4;

/** Query heads that one workgroup serves: the largest divisor of the GQA group within MAX_GROUP. */
export function headsPerWorkgroup({ heads, kvHeads }: KvShape): number {
  const group = heads / kvHeads;
  for (let size = Math.min(group, MAX_GROUP); size > 1; size--) if (group % size === 0) return size;
  return 1;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const each = (count: number, line: (index: number) => string): string => range(count).map(line).join('\n');

/** `lanesShare`: how lanes of a workgroup see each other's scores. */
export function attentionShader(shape: KvShape, lanesShare: 'subgroup' | 'workgroup'): string {
  const { heads, kvHeads, headDim } = shape;
  const group = heads / kvHeads;
  const size = headsPerWorkgroup(shape);
  const perHead8 = headDim / 8; // vec4u of f16 per k or v row
  const spans = Math.ceil(perHead8 / ATTENTION_LANES); // vec4u of v per lane
  const subgroup = lanesShare === 'subgroup';
  /** Score or weight that the lane of `position` holds for head g, after exchange(). */
  const of = (g: number, position: string): string =>
    subgroup ? `subgroupShuffle(own${g}, ${position})` : `exchanged[${g * 8}u + ${position}]`;
  const exchange = (name: string): string =>
    subgroup
      ? each(size, (g) => `    let own${g} = ${name}${g};`)
      : `    workgroupBarrier();
${each(size, (g) => `    exchanged[${g * 8}u + lane] = ${name}${g};`)}
    workgroupBarrier();`;
  const tileMost = (g: number): string => {
    if (subgroup) return `subgroupMax(t${g})`;
    const at = (i: number): string => of(g, `${i}u`);
    return `max(max(max(${at(0)}, ${at(1)}), max(${at(2)}, ${at(3)})), max(max(${at(4)}, ${at(5)}), max(${at(6)}, ${at(7)})))`;
  };
  // A lane loads 8 dims of each query head (and per span); everyone gets them from there.
  const loadQuery = (g: number, j: number): string => {
    const at = `qAt + ${(g * headDim) / 4}u + 2u * (${laneSpan(perHead8, j)})`;
    if (subgroup) return `  let qC${g}_${j} = qkv[${at}];\n  let qD${g}_${j} = qkv[${at} + 1u];`;
    const slot = `${g * perHead8 * 2}u + 2u * (${laneSpan(perHead8, j)})`;
    return `  query[${slot}] = qkv[${at}];\n  query[${slot} + 1u] = qkv[${at} + 1u];`;
  };
  const query = (g: number, half: 'C' | 'D', i: number): string =>
    subgroup
      ? `subgroupBroadcast(q${half}${g}_${Math.floor(i / 8)}, ${i % 8}u)`
      : `query[${g * perHead8 * 2 + 2 * i + (half === 'D' ? 1 : 0)}]`;
  const dot = (g: number): string =>
    `s${g} = fma(c${g}.x, k0.x, fma(c${g}.y, k0.y, fma(c${g}.z, k1.x, fma(c${g}.w, k1.y, s${g}))));
      s${g} = fma(d${g}.x, k2.x, fma(d${g}.y, k2.y, fma(d${g}.z, k3.x, fma(d${g}.w, k3.y, s${g}))));`;
  return `${subgroup ? 'enable subgroups;' : ''}
@group(0) @binding(0) var<storage, read> qkv: array<vec4f>;          // [token][heads + 2 * kvHeads][headDim / 4], q rotated and scaled
@group(0) @binding(1) var<storage, read> arena: array<vec4u>;        // [block][2][kvHeads][16][headDim / 8], f16
@group(0) @binding(2) var<storage, read> positions: array<u32>;      // [token]
@group(0) @binding(3) var<storage, read> tableAt: array<u32>;        // [token]: where its sequence's block table begins
@group(0) @binding(4) var<storage, read> tables: array<u32>;         // block tables
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>;    // [token][heads][headDim / 4]
${subgroup ? '' : `var<workgroup> exchanged: array<f32, ${size * 8}>;\nvar<workgroup> query: array<vec4f, ${size * perHead8 * 2}>;`}

@compute @workgroup_size(${ATTENTION_LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup.y;
  let firstHead = workgroup.x * ${size}u;
  let kvHead = firstHead / ${group}u;
  let count = positions[token] + 1u;
  let table = tableAt[token];
  let qAt = (token * ${heads + 2 * kvHeads}u + firstHead) * ${headDim / 4}u;
${each(size, (g) => each(spans, (j) => loadQuery(g, j)))}
${subgroup ? '' : '  workgroupBarrier();'}
${each(size, (g) => `  var most${g} = -3.0e38;\n  var sum${g} = 0.0;`)}
${each(size, (g) => each(spans, (j) => `  var a${g}_${j} = vec4f(0.0);\n  var b${g}_${j} = vec4f(0.0);`))}
  for (var first = 0u; first < count; first += 8u) {
    let block = tables[table + first / 16u];
    let kRow = (block * ${2 * kvHeads}u + kvHead) * 16u + first % 16u;
    let vRow = kRow + ${kvHeads * 16}u;
    let valid = count - first;
    var kAt = (kRow + lane) * ${perHead8}u;
${each(size, (g) => `    var s${g} = 0.0;`)}
${each(
  perHead8,
  (i) => `    {
      let k = arena[kAt + ${i}u];
${each(size, (g) => `      let c${g} = ${query(g, 'C', i)};\n      let d${g} = ${query(g, 'D', i)};`)}
      let k0 = unpack2x16float(k.x); let k1 = unpack2x16float(k.y); let k2 = unpack2x16float(k.z); let k3 = unpack2x16float(k.w);
${each(size, (g) => `      ${dot(g)}`)}
    }`,
)}
${each(size, (g) => `    let t${g} = select(-3.0e38, s${g}, lane < valid);`)}
${subgroup ? '' : exchange('t')}
${each(
  size,
  (g) => `    let top${g} = max(most${g}, ${tileMost(g)});
    let keep${g} = exp(most${g} - top${g});
    most${g} = top${g};
    sum${g} *= keep${g};
${each(spans, (j) => `    a${g}_${j} *= keep${g};\n    b${g}_${j} *= keep${g};`)}
    let e${g} = exp(t${g} - top${g});`,
)}
${exchange('e')}
    // Rows past the end may hold anything, even NaN: never touched.
    for (var i = 0u; i < min(valid, 8u); i++) {
${each(size, (g) => `      let p${g} = ${of(g, 'i')};\n      sum${g} += p${g};`)}
${each(
  spans,
  (j) => `      {
        let v = arena[(vRow + i) * ${perHead8}u + ${laneSpan(perHead8, j)}];
        let v0 = unpack2x16float(v.x); let v1 = unpack2x16float(v.y); let v2 = unpack2x16float(v.z); let v3 = unpack2x16float(v.w);
${each(size, (g) => `        a${g}_${j} = fma(vec4f(p${g}), vec4f(v0, v1), a${g}_${j});\n        b${g}_${j} = fma(vec4f(p${g}), vec4f(v2, v3), b${g}_${j});`)}
      }`,
)}
    }
  }
${each(size, (g) =>
  each(
    spans,
    (j) => `  if (lane + ${j * 8}u < ${perHead8}u) {
    let at = (token * ${heads}u + firstHead + ${g}u) * ${headDim / 4}u + (lane + ${j * 8}u) * 2u;
    out[at] = a${g}_${j} / sum${g};
    out[at + 1u] = b${g}_${j} / sum${g};
  }`,
  ),
)}
}
`;
}

/** The vec4u of a row that a lane reads in span j; lanes past the head's end read the last one and write nothing. */
function laneSpan(perHead8: number, span: number): string {
  const at = `lane + ${span * 8}u`;
  return (span + 1) * 8 <= perHead8 ? at : `min(${at}, ${perHead8 - 1}u)`;
}
