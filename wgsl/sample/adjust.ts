// Bias and penalties, in place, on the few tokens that have any; the unadjusted logits are kept aside for logprobs. One workgroup per row.
// A token that was drawn by a step whose result the host has not seen yet is counted from its slot.
import { sampleBindings } from './bindings.ts';
import { ADJUSTMENT_WORDS, FLAGS, NO_SLOT, NOT_SEEN, type SampleShape } from './row.ts';

/**
 * logit + bias; if seen, times the repetition factor; if generated, minus count · frequency + presence. Each operation rounds to
 * float32. Order and semantics: vLLM's v1/sample/sampler.py.
 */
export function adjustedLogit(
  logit: number,
  bias: number,
  count: number | null,
  row: { above: number; below: number; frequency: number; presence: number },
): number {
  const biased = Math.fround(logit + bias);
  if (count === null) return biased;
  const repeated = Math.fround(biased * (biased > 0 ? row.above : row.below));
  if (count === 0) return repeated;
  return Math.fround(repeated - Math.fround(Math.fround(count * row.frequency) + row.presence));
}

export function adjustShader(shape: SampleShape): string {
  return `${sampleBindings(shape)}
var<workgroup> pendingFound: atomic<u32>;

fn adjusted(bits: u32, bias: f32, count: u32, row: Row) -> u32 {
  var logit = opaque(bitcast<f32>(bits) + bias);
  if (count != ${NOT_SEEN}u) { logit = opaque(logit * select(row.below, row.above, logit > 0.0)); }
  if (count != ${NOT_SEEN}u && count != 0u) {
    logit = opaque(logit - opaque(opaque(f32(count) * row.frequency) + row.presence));
  }
  return bitcast<u32>(logit);
}

fn adjust(row: u32, id: u32, bias: f32, count: u32, kept: u32) {
  let at = row * STRIDE4 + id / 4u;
  let bits = logits[at][id % 4u];
  scratch[KEPT + kept] = bits;
  logits[at][id % 4u] = adjusted(bits, bias, count, rows[row]);
}

@compute @workgroup_size(SCAN_LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  if ((rows[row].flags & ${FLAGS.adjusted}u) == 0u) { return; }
  let count = rows[row].adjustments;
  let keptAt = rows[row].keptAt;
  var pending = ${NO_SLOT}u;
  if (rows[row].pending != ${NO_SLOT}u) { pending = slots[rows[row].pending]; }
  for (var i = lane; i < count; i += SCAN_LANES) {
    let at = rows[row].adjustAt + i * ${ADJUSTMENT_WORDS}u;
    let id = adjustments[at];
    var seen = adjustments[at + 1u];
    if (id == pending) {
      seen = select(seen, 0u, seen == ${NOT_SEEN}u) + 1u;
      atomicStore(&pendingFound, 1u);
    }
    adjust(row, id, bitcast<f32>(adjustments[at + 2u]), seen, keptAt + i);
  }
  workgroupBarrier();
  if (lane == 0u && pending != ${NO_SLOT}u && atomicLoad(&pendingFound) == 0u) { adjust(row, pending, 0.0, 1u, keptAt + count); }
}
`;
}
