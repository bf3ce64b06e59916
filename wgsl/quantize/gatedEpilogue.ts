// SiLU(gate)·up as activations of the next matrix, where gate and up are made: with their rows interleaved (layout of a matrix with `interleaved`),
// a lane has four of each, and the eight lanes of a group a block of 32. The bits are those of shader.ts.
import type { Epilogue } from '../matmul/epilogue.ts';
import { LANE_GROUP } from '../matmul/layout.ts';
import type { Activations, MatmulVariant } from '../matmul/variant.ts';
import { SILU } from './shader.ts';
import { LEAST_PEAK } from './storeBlock.ts';

/** out: activations, storeBlock.ts; `outStride`: its blocks per token. */
export const gatedEpilogue = (format: Activations): Epilogue => ({
  label: `gated ${format}`,
  bindings: [],
  exchanges: format === 'int8',
  outType: format === 'int8' ? 'vec2u' : 'vec4f',
  declarations: (variant) => (format === 'int8' ? quantised(variant) : plain),
});

const plain = `
${SILU}
fn takeRows(local: u32, live: bool, token: u32, row: u32, gate: vec4f, up: vec4f) {
  if (!live) { return; }
  out[token * p.outStride * 8u + row / 8u] = silu(gate) * up;
}`;

/** A lane's two words of a block; the first lane of a group adds what stands behind them. Sums of words hold those of both halves, up to 2^11 each. */
const quantised = (variant: Pick<MatmulVariant, 'subgroup' | 'lanes'>): string => `
${SILU}
${exchange(variant)}
fn takeRows(local: u32, live: bool, token: u32, row: u32, gate: vec4f, up: vec4f) {
  let v = silu(gate) * up;
  let most = max(abs(v.xy), abs(v.zw));
  let amax = bitcast<f32>(largest(local, bitcast<u32>(max(most.x, most.y))));
  let scale = amax / 127.0;
  let inverse = select(0.0, 127.0 / amax, amax > ${LEAST_PEAK});
  let a = vec4i(round(v * inverse));
  let words = bitcast<vec2u>((a.xz << vec2u(16u)) + a.yw);
  let sum = total(local, words.x + words.y);
  if (!live) { return; }
  let lane = row / 8u;
  let at = (token * p.outStride + lane / ${LANE_GROUP}u) * 10u;
  out[at + lane % ${LANE_GROUP}u] = words;
  if (lane % ${LANE_GROUP}u == 0u) {
    let lower = bitcast<i32>(sum << 16u) >> 16u;
    let all = f32(lower + ((bitcast<i32>(sum) - lower) >> 16u));
    out[at + 8u] = vec2u(sum, bitcast<u32>(scale));
    out[at + 9u] = vec2u(bitcast<u32>(scale * all), 0u);
  }
}`;

/** Over the lanes of a group: the largest (of magnitudes, whose bits are in their order) and the sum. Neither depends on the order. */
function exchange({ subgroup, lanes }: Pick<MatmulVariant, 'subgroup' | 'lanes'>): string {
  const join = (name: string, by: (a: string, b: string) => string): string =>
    subgroup !== null && subgroup >= LANE_GROUP
      ? `
fn ${name}(local: u32, own: u32) -> u32 {
  var all = own;
  ${[4, 2, 1].map((mask) => `all = ${by('all', `subgroupShuffleXor(all, ${mask}u)`)};`).join(' ')}
  return all;
}`
      : `
fn ${name}(local: u32, own: u32) -> u32 {
  workgroupBarrier();
  shared_[local] = own;
  workgroupBarrier();
  let first = local / ${LANE_GROUP}u * ${LANE_GROUP}u;
  var all = own;
  ${Array.from({ length: LANE_GROUP - 1 }, (_, i) => `all = ${by('all', `shared_[first + (local + ${i + 1}u) % ${LANE_GROUP}u]`)};`).join(' ')}
  return all;
}`;
  const store = subgroup !== null && subgroup >= LANE_GROUP ? '' : `var<workgroup> shared_: array<u32, ${lanes}>;`;
  return `${store}${join('largest', (a, b) => `max(${a}, ${b})`)}${join('total', (a, b) => `${a} + ${b}`)}`;
}
