// What a step's logits do to one sequence: prompt logprobs, the next token, its end. Each output position is drawn with noise of
// (seed, choice, position) from logits of the exact history, so batch, cache and preemption leave no trace in it.
import { positionLogprob } from './logprobs.ts';
import { uniformNoise } from './noise.ts';
import type { PositionLogprob, SequenceEnd, SequenceOutput } from './request.ts';
import type { Sampler } from './sampler.ts';
import type { PlannedChunk } from './scheduler.ts';
import type { Sequence } from './sequence.ts';

/** An output that tells nothing yet: where the sequence stands, and once what the cache answered. */
export function standing(sequence: Sequence): SequenceOutput {
  const output: SequenceOutput = { id: sequence.request.id, ids: [], position: sequence.outputLength };
  if (!sequence.announced && sequence.cachedTokens !== null) {
    sequence.announced = true;
    output.cachedTokens = sequence.cachedTokens;
  }
  return output;
}

/** Whether there is anything in it for the request's owner. */
export function tells(output: SequenceOutput): boolean {
  const { ids, promptLogprobs, cachedTokens, end } = output;
  return ids.length > 0 || promptLogprobs !== undefined || cachedTokens !== undefined || end !== undefined;
}

/**
 * What a chunk's results do, once it is counted as computed. `rows`: the logits of chunk.rows, each [vocabSize]. Logits that are not finite end the sequence as
 * `failed`, and it alone.
 */
export function advance(chunk: PlannedChunk, rows: readonly Float32Array[], sampler: Sampler): SequenceOutput {
  const { sequence, start } = chunk;
  const output = standing(sequence);
  const scores: PositionLogprob[] = [];
  if (sequence.scoring && sequence.scored === 0) {
    scores.push({ id: sequence.tokens[0]!, logprob: null, top: [] });
    sequence.scored = 1;
  }
  let end: SequenceEnd | undefined;
  for (const [i, offset] of chunk.rows.entries()) {
    const next = start + offset + 1;
    if (next < sequence.promptLength) {
      const score = positionLogprob(rows[i]!, sequence.tokens[next]!, sequence.request.promptLogprobs ?? 0);
      if (score) scores.push(score);
      else end = 'failed';
      sequence.scored = next + 1;
    } else end ??= generate(sequence, rows[i]!, sampler, output);
  }
  if (sequence.request.maxTokens === 0 && sequence.computed === sequence.length) end ??= 'length';
  if (scores.length > 0 && end !== 'failed') output.promptLogprobs = scores;
  if (end) output.end = end;
  return output;
}

/** Draws the next token into the output; how the sequence ends with it, if it does. */
function generate(
  sequence: Sequence,
  logits: Float32Array,
  sampler: Sampler,
  output: SequenceOutput,
): SequenceEnd | undefined {
  const { request } = sequence;
  const id = sampler.sample({
    logits,
    params: request.sampling,
    counts: sequence.counts,
    draw: () => uniformNoise(sequence.noiseKey, request.choice, sequence.outputLength),
  });
  if (id === null) return 'failed';
  if (request.logprobs !== null) {
    const logprob = positionLogprob(logits, id, request.logprobs);
    if (!logprob) return 'failed';
    output.logprobs = [logprob];
  }
  output.ids.push(id);
  sequence.append(id);
  if (request.eosIds.includes(id)) return 'stop';
  return sequence.outputLength === request.maxTokens ? 'length' : undefined;
}
