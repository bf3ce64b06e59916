// For a row's logprobs: the sum of all weights, and the best alternatives, one after the other. Each lane keeps the best of its tiles; the
// owner of the best of all gives it up and looks its tile through for the next. One workgroup per row.
import { sampleBindings } from './bindings.ts';
import { CHUNK, FLAGS, RESULT, RESULT_WORDS, type SampleShape } from './row.ts';

export function topShader(shape: SampleShape): string {
  return `${sampleBindings(shape)}
var<workgroup> lanes: array<vec3u, SCAN_LANES>;  // key, id, chunk

fn better(a: vec3u, b: vec3u) -> vec3u { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }

fn tileAt(row: u32, chunk: u32, lane: u32) -> u32 { return TILE_BEST + ((row * CHUNKS + chunk) * SCAN_LANES + lane) * 2u; }

fn bestTile(row: u32, lane: u32) -> vec3u {
  var best = vec3u(0u, 0xffffffffu, 0u);
  for (var chunk = 0u; chunk < CHUNKS; chunk++) {
    let at = tileAt(row, chunk, lane);
    best = better(best, vec3u(scratch[at], scratch[at + 1u], chunk));
  }
  return best;
}

/** The best of a tile after \`last\`. */
fn nextInTile(row: u32, lane: u32, last: vec3u) -> vec2u {
  var best = vec3u(0u, 0xffffffffu, 0u);
  let end = min((last.z + 1u) * ${CHUNK / 4}u, STRIDE4);
  for (var v = last.z * ${CHUNK / 4}u + lane; v < end; v += SCAN_LANES) {
    let keys = ordered(load(row, v));
    for (var c = 0u; c < 4u; c++) {
      let id = v * 4u + c;
      if (keys[c] < last.x || (keys[c] == last.x && id > last.y)) { best = better(best, vec3u(keys[c], id, 0u)); }
    }
  }
  return best.xy;
}

@compute @workgroup_size(SCAN_LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  if ((rows[row].flags & ${FLAGS.logprobs}u) == 0u) { return; }
  let answer = row * ${RESULT_WORDS}u;
  if (lane == 0u) {
    var sum = vec2u(0u);
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let at = CHUNK_SUMS + (row * CHUNKS + chunk) * 3u;
      sum = add64(sum, vec2u(scratch[at], scratch[at + 1u]));
    }
    results[answer + ${RESULT.best}u] = bitcast<u32>(valueOf(bestOf(row).x));
    results[answer + ${RESULT.sumLow}u] = sum.x;
    results[answer + ${RESULT.sumHigh}u] = sum.y;
  }
  var mine = vec3u(0u, 0xffffffffu, 0u);
  if (rows[row].top > 0u) { mine = bestTile(row, lane); }
  for (var n = 0u; n < rows[row].top; n++) {
    lanes[lane] = mine;
    workgroupBarrier();
    for (var step = SCAN_LANES / 2u; step > 0u; step >>= 1u) {
      if (lane < step) { lanes[lane] = better(lanes[lane], lanes[lane + step]); }
      workgroupBarrier();
    }
    let best = lanes[0];
    if (lane == 0u) {
      let at = answer + ${RESULT.alternatives}u + n * 2u;
      results[at] = best.y;
      results[at + 1u] = bitcast<u32>(valueOf(best.x));
    }
    if (all(best == mine)) {
      let at = tileAt(row, best.z, lane);
      let next = nextInTile(row, lane, best);
      scratch[at] = next.x;
      scratch[at + 1u] = next.y;
      mine = bestTile(row, lane);
    }
    workgroupBarrier();
  }
}
`;
}
