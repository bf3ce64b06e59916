// Log-softmax of raw logits: what a client is told about a position, before bias, penalties and temperature. The kernels sum the weights in
// integers (wgsl/sample/weight.ts), the rest is double precision here: the same on every adapter with the same logits.
import { RESULT } from '../wgsl/sample/row.ts';
import { WEIGHT_ONE } from '../wgsl/sample/weight.ts';
import type { PositionLogprob } from './request.ts';

/** Nothing is told to be less likely: JSON has no -Infinity. */
export const LOGPROB_FLOOR = -9999;

/** The token's logprob and the `top` most likely alternatives, best first, ties to the lower id. `answer`: RESULT_WORDS words. */
export function positionLogprob(answer: Uint32Array, top: number): PositionLogprob {
  const logits = new Float32Array(answer.buffer, answer.byteOffset, answer.length);
  const sum = answer[RESULT.sumHigh]! * 2 ** 32 + answer[RESULT.sumLow]!;
  const logSum = Math.log(sum / WEIGHT_ONE);
  const logprobAt = (at: number) => Math.max(LOGPROB_FLOOR, logits[at]! - logits[RESULT.best]! - logSum);
  return {
    id: answer[RESULT.id]!,
    logprob: logprobAt(RESULT.logit),
    top: Array.from({ length: top }, (_, i) => {
      const at = RESULT.alternatives + 2 * i;
      return [answer[at]!, logprobAt(at + 1)] as const;
    }),
  };
}
