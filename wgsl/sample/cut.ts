// Where top_k and top_p cut: one workgroup per row turns both into a border on the distance from the best token. Each cut is found in two
// passes over the row, by a histogram of the upper 10 bits of the distance and one of the lower 11 inside the bin where it crosses:
// exact without a sort, and since all is in integers, the same whatever the order of additions.
//
//   top_k   all that are no further than the k-th nearest stay: the border lies behind its ties
//   top_p   a token stays while those nearer weigh less than top_p of all that top_k and min_p leave; ties by id
import { sampleBindings } from './bindings.ts';
import { FLAGS, type SampleShape } from './row.ts';
import { DISTANCE_CAP } from './weight.ts';

const FINE = 2048;
const COARSE = DISTANCE_CAP / FINE;

/** `lanes`: a power of 2 up to 1024. */
export function cutShader(shape: SampleShape, lanes: number): string {
  return `${sampleBindings(shape)}
const LANES = ${lanes}u;
const FINE = ${FINE}u;
const COARSE = ${COARSE}u;
// What a pass gathers: tokens per coarse bin, their weight per coarse bin (low words after the counts' place, then high ones), or tokens
// per fine bin of one coarse bin. SHARES is FINE, read as weight: all of a fine bin weigh the same.
const COUNTS = 0u;
const WEIGHTS = 1u;
const FINE_COUNTS = 2u;
const SHARES = 3u;
struct Crossing {
  bin: u32,
  before: vec2u,  // gathered in the bins before it
}
var<workgroup> bins: array<atomic<u32>, ${Math.max(3 * COARSE, FINE)}>;
var<workgroup> gathered: array<vec2u, LANES>;
var<workgroup> crossing: Crossing;
var<workgroup> top: f32;
var<workgroup> total: vec2u;

fn collect(row: u32, lane: u32, best: f32, limit: u32, mode: u32, coarse: u32) {
  for (var i = lane; i < ${Math.max(3 * COARSE, FINE)}u; i += LANES) { atomicStore(&bins[i], 0u); }
  workgroupBarrier();
  for (var v = lane; v < STRIDE4; v += LANES) {
    let distance = distances(best, load(row, v), rows[row].scale);
    if (!any(distance <= vec4u(limit))) { continue; }
    var weighed = vec4u(0u);
    if (mode == WEIGHTS) { weighed = weights(distance); }
    for (var c = 0u; c < 4u; c++) {
      let bin = distance[c] / FINE;
      if (distance[c] > limit) { continue; }
      if (mode == COUNTS) { atomicAdd(&bins[bin], 1u); }
      else if (mode == WEIGHTS) {
        let before = atomicAdd(&bins[COARSE + bin], weighed[c]);
        if (before + weighed[c] < before) { atomicAdd(&bins[2u * COARSE + bin], 1u); }
      } else if (bin == coarse) { atomicAdd(&bins[distance[c] % FINE], 1u); }
    }
  }
  workgroupBarrier();
}

fn content(mode: u32, bin: u32, coarse: u32) -> vec2u {
  if (mode == WEIGHTS) { return vec2u(atomicLoad(&bins[COARSE + bin]), atomicLoad(&bins[2u * COARSE + bin])); }
  let count = atomicLoad(&bins[bin]);
  if (mode == SHARES && count > 0u) { return multiply(count, weight(coarse * FINE + bin)); }
  return vec2u(count, 0u);
}

/** Sums each lane's bins, and all of them. */
fn gather(lane: u32, mode: u32, size: u32, coarse: u32) {
  var sum = vec2u(0u);
  for (var bin = lane * (size / LANES); bin < (lane + 1u) * (size / LANES); bin++) { sum = add64(sum, content(mode, bin, coarse)); }
  gathered[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    total = vec2u(0u);
    for (var i = 0u; i < LANES; i++) { total = add64(total, gathered[i]); }
  }
}

/** The first bin with which at least \`target\` has been gathered; \`size\` if there is none. */
fn cross(lane: u32, mode: u32, size: u32, coarse: u32, goal: vec2u) -> Crossing {
  if (lane == 0u) {
    var before = vec2u(0u);
    var part = 0u;
    while (part < LANES && less64(add64(before, gathered[part]), goal)) {
      before = add64(before, gathered[part]);
      part++;
    }
    var bin = part * (size / LANES);
    while (bin < size && less64(add64(before, content(mode, bin, coarse)), goal)) {
      before = add64(before, content(mode, bin, coarse));
      bin++;
    }
    crossing = Crossing(bin, before);
  }
  return workgroupUniformLoad(&crossing);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  if ((rows[row].flags & ${FLAGS.cut}u) == 0u) { return; }
  if (lane == 0u) { top = valueOf(bestOf(row).x); }
  let best = workgroupUniformLoad(&top);
  var limit = rows[row].limit;
  let topK = vec2u(rows[row].topK, 0u);
  if (topK.x > 0u) {
    collect(row, lane, best, limit, COUNTS, 0u);
    gather(lane, COUNTS, COARSE, 0u);
    let coarse = cross(lane, COUNTS, COARSE, 0u, topK);
    if (coarse.bin < COARSE) {
      collect(row, lane, best, limit, FINE_COUNTS, coarse.bin);
      gather(lane, FINE_COUNTS, FINE, 0u);
      limit = coarse.bin * FINE + cross(lane, FINE_COUNTS, FINE, 0u, subtract64(topK, coarse.before)).bin;
    }
  }
  var border = limit + 1u;
  var ties = 0u;
  if (rows[row].topP > 0u) {
    collect(row, lane, best, limit, WEIGHTS, 0u);
    gather(lane, WEIGHTS, COARSE, 0u);
    let all = workgroupUniformLoad(&total);
    var goal = multiplyHigh64(vec2u(0u, rows[row].topP), all);
    if (goal.x == 0u && goal.y == 0u) { goal.x = 1u; }
    let coarse = cross(lane, WEIGHTS, COARSE, 0u, goal);
    collect(row, lane, best, limit, FINE_COUNTS, coarse.bin);
    gather(lane, SHARES, FINE, coarse.bin);
    let rest = subtract64(goal, coarse.before);
    let fine = cross(lane, SHARES, FINE, coarse.bin, rest);
    border = coarse.bin * FINE + fine.bin;
    // As many as it takes to weigh at least what is still missing, which is not 0.
    ties = times(subtract64(subtract64(rest, fine.before), vec2u(1u, 0u)), weight(border), 0x7fffffffu) + 1u;
  }
  if (lane == 0u) {
    scratch[CUTS + row * 2u] = border;
    scratch[CUTS + row * 2u + 1u] = ties;
  }
}
`;
}
