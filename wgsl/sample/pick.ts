// The last kernel: each row's token, into its answer and its slot. Inverse of the cumulative weight, in order of ids, first over the tokens
// above the border, then over the ties on it. One workgroup per row.
import { sampleBindings } from './bindings.ts';
import { ADJUSTMENT_WORDS, CHUNK, FLAGS, NO_SLOT, RESULT, RESULT_WORDS, type SampleShape, SCAN_LANES } from './row.ts';

/** Logits that a lane looks through in order, of the chunk that holds the token. */
const RUN4 = CHUNK / SCAN_LANES / 4;

export function pickShader(shape: SampleShape): string {
  return `${sampleBindings(shape)}
struct Search {
  chunk: u32,
  above: u32,    // 1: above the border; 0: on it
  rest: vec2u,   // weight, or number of ties, before the token in its chunk
}
var<workgroup> top: vec2u;
var<workgroup> search: Search;
var<workgroup> sums: array<vec2u, SCAN_LANES>;
var<workgroup> chosen: u32;
/** 1 + where the id's unadjusted logit is kept; 0: it has not been adjusted. */
var<workgroup> keptAt: u32;

fn sumOf(row: u32, chunk: u32) -> vec2u {
  let at = CHUNK_SUMS + (row * CHUNKS + chunk) * 3u;
  return vec2u(scratch[at], scratch[at + 1u]);
}
fn tiesOf(row: u32, chunk: u32) -> u32 { return scratch[CHUNK_SUMS + (row * CHUNKS + chunk) * 3u + 2u]; }

/** In which chunk the draw falls. */
fn findChunk(row: u32, border: u32, ties: u32) -> Search {
  var above = vec2u(0u);
  for (var chunk = 0u; chunk < CHUNKS; chunk++) { above = add64(above, sumOf(row, chunk)); }
  let unit = weight(border);
  let all = add64(above, multiply(ties, unit));
  var rest = multiplyHigh64(vec2u(rows[row].noiseLow, rows[row].noiseHigh), all);
  var chunk = 0u;
  if (less64(rest, above)) {
    while (chunk < CHUNKS - 1u && !less64(rest, sumOf(row, chunk))) {
      rest = subtract64(rest, sumOf(row, chunk));
      chunk++;
    }
    return Search(chunk, 1u, rest);
  }
  var place = times(subtract64(rest, above), unit, ties - 1u);
  while (chunk < CHUNKS - 1u && place >= tiesOf(row, chunk)) {
    place -= tiesOf(row, chunk);
    chunk++;
  }
  return Search(chunk, 0u, vec2u(place, 0u));
}

/** What each of four tokens adds to the search. */
fn share(row: u32, at: u32, best: f32, border: u32, above: u32) -> vec4u {
  let distance = distances(best, load(row, at), rows[row].scale);
  if (above == 1u) { return select(vec4u(0u), weights(distance), distance < vec4u(border)); }
  return select(vec4u(0u), vec4u(1u), distance == vec4u(border));
}

fn draw(row: u32, lane: u32, best: u32) -> u32 {
  var border = rows[row].limit + 1u;
  var ties = 0u;
  if ((rows[row].flags & ${FLAGS.cut}u) != 0u) {
    border = scratch[CUTS + row * 2u];
    ties = scratch[CUTS + row * 2u + 1u];
  }
  if (lane == 0u) { search = findChunk(row, border, ties); }
  let found = workgroupUniformLoad(&search);
  let first = found.chunk * ${CHUNK / 4}u + lane * ${RUN4}u;
  let end = min(first + ${RUN4}u, STRIDE4);
  var sum = vec2u(0u);
  for (var v = first; v < end; v++) {
    let part = share(row, v, valueOf(best), border, found.above);
    for (var c = 0u; c < 4u; c++) { sum = add64(sum, vec2u(part[c], 0u)); }
  }
  sums[lane] = sum;
  workgroupBarrier();
  var before = vec2u(0u);
  for (var i = 0u; i < lane; i++) { before = add64(before, sums[i]); }
  if (!less64(found.rest, before) && less64(found.rest, add64(before, sum))) {
    var passed = before;
    var id = 0u;
    for (var v = first; v < end && !less64(found.rest, passed); v++) {
      let part = share(row, v, valueOf(best), border, found.above);
      for (var c = 0u; c < 4u && !less64(found.rest, passed); c++) {
        passed = add64(passed, vec2u(part[c], 0u));
        id = v * 4u + c;
      }
    }
    chosen = id;
  }
  return workgroupUniformLoad(&chosen);
}

@compute @workgroup_size(SCAN_LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let flags = rows[row].flags;
  if ((flags & ${FLAGS.wanted}u) == 0u) { return; }
  if (lane == 0u) { top = bestOf(row); }
  let best = workgroupUniformLoad(&top);
  var id = rows[row].given;
  if ((flags & ${FLAGS.greedy}u) != 0u) { id = best.y; }
  else if ((flags & ${FLAGS.sampled}u) != 0u) { id = draw(row, lane, best.x); }
  if ((flags & ${FLAGS.logprobs}u) != 0u) {
    for (var i = lane; i < rows[row].adjustments; i += SCAN_LANES) {
      if (adjustments[rows[row].adjustAt + i * ${ADJUSTMENT_WORDS}u] == id) { keptAt = rows[row].keptAt + i + 1u; }
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    let at = row * ${RESULT_WORDS}u;
    let valid = best.x != INVALID_KEY && best.x != IMPOSSIBLE_KEY;
    results[at + ${RESULT.id}u] = id;
    results[at + ${RESULT.valid}u] = select(0u, 1u, valid);
    let pending = rows[row].pending;
    if (keptAt == 0u && pending != ${NO_SLOT}u && slots[pending] == id) { keptAt = rows[row].keptAt + rows[row].adjustments + 1u; }
    var bits = logits[row * STRIDE4 + id / 4u][id % 4u];
    if (keptAt > 0u) { bits = scratch[KEPT + keptAt - 1u]; }
    results[at + ${RESULT.logit}u] = canonical(vec4u(bits)).x;
    if (rows[row].slot != ${NO_SLOT}u) { slots[rows[row].slot] = id; }
  }
}
`;
}
