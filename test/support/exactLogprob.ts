// Log-softmax in double precision, for comparison, and how far a told logprob may lie from it.
import { expect } from 'vitest';
import type { PositionLogprob } from '../../engine/request.ts';

/** Weights are whole multiples of 2^-31 of the best, at distances in steps of 2^-16 octaves (wgsl/sample/weight.ts). */
const TOLERANCE = 2e-5;

/** Fails unless `told` is the logprob of `id` with the `top` best alternatives, ties to the lower id. */
export function expectLogprob(told: PositionLogprob | undefined, logits: Float32Array, id: number, top: number): void {
  const max = logits.reduce((a, b) => Math.max(a, b));
  const logSum = max + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
  const ranked = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, top);
  const exact = (of: number): number => Math.max(-9999, logits[of]! - logSum);
  expect(told?.id).toBe(id);
  expect(told?.top.map(([other]) => other)).toEqual(ranked);
  for (const [of, logprob] of [[id, told!.logprob!] as const, ...told!.top])
    expect(Math.abs(logprob - exact(of)), `logprob ${logprob} of ${of}`).toBeLessThan(TOLERANCE);
}
