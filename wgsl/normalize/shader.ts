// hidden += delta, then RMSNorm of hidden as activations for the next matrix: one workgroup per token. The sum of squares has one fixed order,
// whatever the number of lanes: over the blocks of each of PARTS parts (block modulo PARTS) ascending, then a fixed tree over the parts.
import { BLOCK } from '../matmul/layout.ts';
import type { Activations } from '../matmul/variant.ts';
import { storeBlock } from '../quantize/storeBlock.ts';

/** Parts of the sum: as many as the largest workgroup has lanes. */
const PARTS = 256;

/** Workgroups from that on are a GPU's. */
const GPU_LANES = 32;
/** Lanes of a workgroup, the rule's first. A software adapter runs idle lanes and barriers one after another: there the fewest are the fastest. */
export const normalizeLanes = (software: boolean): number[] => (software ? [8] : [64, 32, 128, 256]);

/** `lanes`: a power of 2 up to PARTS. */
export function normalizeShader(format: Activations, lanes: number): string {
  // On a GPU all loads of a block are under way at once; a software adapter's compiler has a loop, whose bound it can't see, or it would take seconds.
  const unrolled = lanes >= GPU_LANES;
  const each = (line: (i: string) => string): string =>
    unrolled
      ? Array.from({ length: 8 }, (_, i) => line(`${i}u`)).join('\n      ')
      : `for (var i = 0u; i < 8u + zero; i++) { ${line('i')} }`;
  const add = unrolled
    ? `var h: array<vec4f, 8>;
      ${each((i) => `h[${i}] = hidden[at + ${i}] + delta[at + ${i}];`)}
      ${each((i) => `hidden[at + ${i}] = h[${i}]; squares = fma(h[${i}], h[${i}], squares);`)}`
    : each((i) => `let h = hidden[at + ${i}] + delta[at + ${i}]; hidden[at + ${i}] = h; squares = fma(h, h, squares);`);
  return `
struct Params {
  blocks: u32,    // hidden / 32
  epsilon: f32,
}
@group(0) @binding(0) var<storage, read_write> hidden: array<vec4f>;       // [token][blocks * 8]
@group(0) @binding(1) var<storage, read> delta: array<vec4f>;              // [token][blocks * 8]
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;             // [blocks * 8]
@group(0) @binding(3) var<storage, read> rowToken: array<u32>;             // token of each row to do
@group(0) @binding(4) var<storage, read_write> activations: array<vec4u>;  // [row], storeBlock.ts
@group(0) @binding(5) var<uniform> p: Params;
var<workgroup> partial: array<f32, ${PARTS}>;
${storeBlock(format)}

@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup.x;
  let base = rowToken[row] * p.blocks * 8u;
  let zero = p.blocks >> 31u;
  for (var part = lane; part < min(p.blocks, ${PARTS}u); part += ${lanes}u) {
    var squares = vec4f(0.0);
    for (var block = part; block < p.blocks; block += ${PARTS}u) {
      let at = base + block * 8u;
      ${add}
    }
    partial[part] = (squares.x + squares.y) + (squares.z + squares.w);
  }
  workgroupBarrier();
  // Beyond the blocks there is nothing but zeros.
  for (var step = ${PARTS / 2}u >> (countLeadingZeros(min(p.blocks, ${PARTS - 1}u)) - ${Math.clz32(PARTS - 1)}u); step > 0u; step >>= 1u) {
    for (var part = lane; part < step; part += ${lanes}u) { partial[part] += partial[part + step]; }
    workgroupBarrier();
  }
  let factor = inverseSqrt(partial[0] / f32(p.blocks * 32u) + p.epsilon);
  for (var block = lane; block < p.blocks; block += ${lanes}u) {
    var v: array<vec4f, 8>;
    ${each((i) => `v[${i}] = hidden[base + block * 8u + ${i}] * factor * weight[block * 8u + ${i}];`)}
    storeBlock(row * p.blocks + block, v);
  }
}
`;
}

/** The shader's Params for rows of `width`. */
export function normalizeParams(width: number, epsilon: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(4);
  words[0] = width / BLOCK;
  new Float32Array(words.buffer)[1] = epsilon;
  return words;
}
