// The two kernels that read whole rows, a workgroup per chunk: which token is best, and what those that stay weigh together.
import { sampleBindings } from './bindings.ts';
import { CHUNK, FLAGS, type SampleShape } from './row.ts';
import { distanceScale } from './weight.ts';

const prologue = `
  let row = group.y;
  if ((rows[row].flags & NEEDED) == 0u) { return; }
  let first = group.x * ${CHUNK / 4}u + lane;
  let end = min((group.x + 1u) * ${CHUNK / 4}u, STRIDE4);`;

/**
 * Key and id of each chunk's best logit, ties to the lowest id; of each lane's tile, too, where logprobs are wanted. `adjusted`: again
 * for rows whose logits have changed since.
 */
export function bestShader(shape: SampleShape, adjusted: boolean): string {
  return `${sampleBindings(shape)}
const NEEDED = ${adjusted ? FLAGS.adjusted : FLAGS.wanted}u;
var<workgroup> best: array<vec2u, SCAN_LANES>;

fn better(a: vec2u, b: vec2u) -> vec2u { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }

@compute @workgroup_size(SCAN_LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {${prologue}
  var keys = vec4u(0u);
  var at = vec4u(0u);
  for (var v = first; v < end; v += SCAN_LANES) {
    let next = ordered(load(row, v));
    let more = next > keys;
    keys = select(keys, next, more);
    at = select(at, vec4u(v * 4u), more);
  }
  let ids = at + vec4u(0u, 1u, 2u, 3u);
  let mine = better(better(vec2u(keys.x, ids.x), vec2u(keys.y, ids.y)), better(vec2u(keys.z, ids.z), vec2u(keys.w, ids.w)));
  best[lane] = mine;
  if ((rows[row].flags & ${FLAGS.cut}u) != 0u) { scratch[TILE_KEYS + (row * CHUNKS + group.x) * SCAN_LANES + lane] = mine.x; }
  ${
    adjusted
      ? ''
      : `if ((rows[row].flags & ${FLAGS.logprobs}u) != 0u) {
    let tile = TILE_BEST + ((row * CHUNKS + group.x) * SCAN_LANES + lane) * 2u;
    scratch[tile] = mine.x;
    scratch[tile + 1u] = mine.y;
  }`
  }
  workgroupBarrier();
  for (var step = SCAN_LANES / 2u; step > 0u; step >>= 1u) {
    if (lane < step) { best[lane] = better(best[lane], best[lane + step]); }
    workgroupBarrier();
  }
  if (lane == 0u) {
    let chunk = CHUNK_BEST + (row * CHUNKS + group.x) * 2u;
    scratch[chunk] = best[0].x;
    scratch[chunk + 1u] = best[0].y;
  }
}
`;
}

/**
 * Sum of the weights above the border, and number of tokens on it, per chunk. `raw`: of the unadjusted logits at temperature 1, for
 * logprobs: then nothing is filtered.
 */
export function sumShader(shape: SampleShape, raw: boolean): string {
  return `${sampleBindings(shape)}
const NEEDED = ${raw ? FLAGS.logprobs : FLAGS.sampled}u;
var<workgroup> top: f32;
var<workgroup> border: u32;
var<workgroup> sums: array<vec3u, SCAN_LANES>;

@compute @workgroup_size(SCAN_LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {${prologue}
  ${raw ? `let scale = ${distanceScale(1)}f;` : 'let scale = rows[row].scale;'}
  if (lane == 0u) {
    top = valueOf(bestOf(row).x);
    border = ${raw ? 'DISTANCE_CAP' : `select(rows[row].limit + 1u, scratch[CUTS + row * 2u], (rows[row].flags & ${FLAGS.cut}u) != 0u)`};
  }
  let best = workgroupUniformLoad(&top);
  let least = workgroupUniformLoad(&border);
  var low = vec4u(0u);
  var high = vec4u(0u);
  var ties = vec4u(0u);
  for (var v = first; v < end; v += SCAN_LANES) {
    let distance = distances(best, load(row, v), scale);
    let added = select(vec4u(0u), weights(distance), distance < vec4u(least));
    low += added;
    high += select(vec4u(0u), vec4u(1u), low < added);
    ties += select(vec4u(0u), vec4u(1u), distance == vec4u(least));
  }
  let sum = add64(add64(vec2u(low.x, high.x), vec2u(low.y, high.y)), add64(vec2u(low.z, high.z), vec2u(low.w, high.w)));
  sums[lane] = vec3u(sum, ties.x + ties.y + ties.z + ties.w);
  workgroupBarrier();
  for (var step = SCAN_LANES / 2u; step > 0u; step >>= 1u) {
    if (lane < step) {
      let other = sums[lane + step];
      sums[lane] = vec3u(add64(sums[lane].xy, other.xy), sums[lane].z + other.z);
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    let chunk = CHUNK_SUMS + (row * CHUNKS + group.x) * 3u;
    scratch[chunk] = sums[0].x;
    scratch[chunk + 1u] = sums[0].y;
    scratch[chunk + 2u] = sums[0].z;
  }
}
`;
}
