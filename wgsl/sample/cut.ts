// Where top_k and top_p cut: one workgroup per row turns both into a border on the distance from the best token. Each cut is found in two
// passes over the row, by a histogram of the upper 10 bits of the distance and one of the lower 11 inside the bin where it crosses:
// exact without a sort, and since all is in integers, the same whatever the order of additions. Most tokens are too far away to be on either
// side of a border, and are not counted one by one: at least k tiles have their best within a bound, so k tokens are; and what is light
// enough not to be in top_p even all together only adds to the total.
//
//   top_k   all that are no further than the k-th nearest stay: the border lies behind its ties
//   top_p   a token stays while those nearer weigh less than top_p of all that top_k and min_p leave; ties by id
import { sampleBindings } from './bindings.ts';
import { CHUNK, FLAGS, type SampleShape } from './row.ts';
import { DISTANCE_CAP } from './weight.ts';

const FINE = 2048;
const COARSE = DISTANCE_CAP / FINE;

/** `lanes`: a power of 2 from SCAN_LANES up to 1024; every SCAN_LANES of them take the tiles of a chunk. */
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
var<workgroup> lights: array<vec2u, LANES>;  // weighed, and in no bin
var<workgroup> crossing: Crossing;
var<workgroup> top: f32;
var<workgroup> total: vec2u;

fn clear(lane: u32) {
  for (var i = lane; i < ${Math.max(3 * COARSE, FINE)}u; i += LANES) { atomicStore(&bins[i], 0u); }
  workgroupBarrier();
}

/** How near the best of a tile is. */
fn tileDistance(row: u32, chunk: u32, lane: u32, best: f32) -> u32 {
  let key = scratch[TILE_KEYS + (row * CHUNKS + chunk) * SCAN_LANES + lane % SCAN_LANES];
  if (key == 0u) { return DISTANCE_CAP; }
  return distances(best, bitcast<vec4u>(vec4f(valueOf(key))), rows[row].scale).x;
}

/** Counts the tiles by their best. */
fn collectTiles(row: u32, lane: u32, best: f32, limit: u32) {
  clear(lane);
  for (var chunk = lane / SCAN_LANES; chunk < CHUNKS; chunk += LANES / SCAN_LANES) {
    let distance = tileDistance(row, chunk, lane, best);
    if (distance <= limit) { atomicAdd(&bins[distance / FINE], 1u); }
  }
  workgroupBarrier();
}

/** Counts or weighs the tokens up to \`limit\`. */
fn collect(row: u32, lane: u32, best: f32, limit: u32, mode: u32, coarse: u32) {
  clear(lane);
  let heavy = rows[row].heavy;
  var light = vec2u(0u);
  for (var chunk = lane / SCAN_LANES; chunk < CHUNKS; chunk += LANES / SCAN_LANES) {
    if (tileDistance(row, chunk, lane, best) > limit) { continue; }
    let end = min((chunk + 1u) * ${CHUNK / 4}u, STRIDE4);
    for (var v = chunk * ${CHUNK / 4}u + lane % SCAN_LANES; v < end; v += SCAN_LANES) {
      let distance = distances(best, load(row, v), rows[row].scale);
      if (!any(distance <= vec4u(limit))) { continue; }
      var weighed = vec4u(0u);
      if (mode == WEIGHTS) { weighed = weights(distance); }
      for (var c = 0u; c < 4u; c++) {
        let bin = distance[c] / FINE;
        if (distance[c] > limit) { continue; }
        if (mode == COUNTS) { atomicAdd(&bins[bin], 1u); }
        else if (mode == FINE_COUNTS) {
          if (bin == coarse) { atomicAdd(&bins[distance[c] % FINE], 1u); }
        } else if (distance[c] > heavy) { light = add64(light, vec2u(weighed[c], 0u)); }
        else {
          let before = atomicAdd(&bins[COARSE + bin], weighed[c]);
          if (before + weighed[c] < before) { atomicAdd(&bins[2u * COARSE + bin], 1u); }
        }
      }
    }
  }
  lights[lane] = light;
  workgroupBarrier();
}

fn content(mode: u32, bin: u32, coarse: u32) -> vec2u {
  if (mode == WEIGHTS) { return vec2u(atomicLoad(&bins[COARSE + bin]), atomicLoad(&bins[2u * COARSE + bin])); }
  let count = atomicLoad(&bins[bin]);
  if (mode == SHARES && count > 0u) { return multiply(count, weight(coarse * FINE + bin)); }
  return vec2u(count, 0u);
}

/** Sums each lane's bins, and everything collected. */
fn gather(lane: u32, mode: u32, size: u32, coarse: u32) {
  var sum = vec2u(0u);
  for (var bin = lane * (size / LANES); bin < (lane + 1u) * (size / LANES); bin++) { sum = add64(sum, content(mode, bin, coarse)); }
  gathered[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    total = vec2u(0u);
    for (var i = 0u; i < LANES; i++) { total = add64(total, add64(gathered[i], lights[i])); }
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
    collectTiles(row, lane, best, limit);
    gather(lane, COUNTS, COARSE, 0u);
    limit = min(limit, cross(lane, COUNTS, COARSE, 0u, topK).bin * FINE + (FINE - 1u));
    collect(row, lane, best, limit, COUNTS, 0u);
    gather(lane, COUNTS, COARSE, 0u);
    let coarse = cross(lane, COUNTS, COARSE, 0u, topK);
    if (coarse.bin < COARSE) {
      collect(row, lane, best, min(limit, coarse.bin * FINE + (FINE - 1u)), FINE_COUNTS, coarse.bin);
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
    collect(row, lane, best, min(limit, coarse.bin * FINE + (FINE - 1u)), FINE_COUNTS, coarse.bin);
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
