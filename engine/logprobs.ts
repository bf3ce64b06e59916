// Log-softmax of a row of raw logits, in double precision: what a client is told about a position, before bias, penalties and
// temperature. Ties among the alternatives go to the lower id.
import type { PositionLogprob } from './request.ts';

/** Nothing is told to be less likely: JSON has no -Infinity. */
export const LOGPROB_FLOOR = -9999;

/** The token's logprob and the `top` most likely alternatives, best first. null when the logits hold NaN or +Infinity. */
export function positionLogprob(logits: Float32Array, id: number, top: number): PositionLogprob | null {
  const best = topIds(logits, Math.max(1, top));
  if (!best) return null;
  const max = logits[best[0]!]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max);
  const logSum = Math.log(sum);
  const logprob = (of: number) => Math.max(LOGPROB_FLOOR, logits[of]! - max - logSum);
  return { id, logprob: logprob(id), top: best.slice(0, top).map((other) => [other, logprob(other)] as const) };
}

/** Ids of the `count` largest logits, best first, ties to the lower id; null when there is NaN, +Infinity or nothing finite. */
function topIds(logits: Float32Array, count: number): number[] | null {
  const best: number[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (!(logit < Number.POSITIVE_INFINITY)) return null;
    if (best.length === count && logit <= least) continue;
    let place = best.length;
    while (place > 0 && logits[best[place - 1]!]! < logit) place -= 1;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
    least = logits[best.at(-1)!]!;
  }
  return best.length > 0 && logits[best[0]!]! > Number.NEGATIVE_INFINITY ? best : null;
}
