// What is asked of a chunk's rows, and what the answers do to the sequence: prompt logprobs, the next token, its end. Each output position
// is drawn with noise of (seed, choice, position) from logits of the exact history, so batch, cache and preemption leave no trace in it.
// Nor do drafts: the row behind one is drawn as if it were known, and believed only where the row before it has drawn that very token.
//
//   tokens      last   d1   d2   d3         d1 … d3: drafts
//   drawn        d1    d2    x    y         released: d1, d2, x. y was drawn behind d3, which is not what came
import { invariant } from './invariant.ts';
import { type RowAnswer, type RowWish, type StepChunk, slotToken } from './modelRunner.ts';
import { positionNoise } from './noise.ts';
import type { PositionLogprob, SequenceEnd, SequenceOutput } from './request.ts';
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

/** A planned chunk as the runner is told it. The token of the step before may still be unknown: then it is in the sequence's slot. */
export function stepChunk(chunk: PlannedChunk): StepChunk {
  const { sequence, start, count, rows, draft } = chunk;
  const { tokens, length, promptLength, request, slot, table } = sequence;
  invariant(table && slot !== null, 'who is computed holds blocks and a slot');
  const drafts = draft.length > 0;
  invariant(!drafts || start + count === length + draft.length, 'drafts stand behind the last known token', { start });
  const unknown = !drafts && start + count > length;
  invariant(!unknown || (count === 1 && start === length), 'only one token can be unknown', { start, count, length });
  return {
    tokens: unknown ? Int32Array.of(slotToken(slot)) : tokensOf(chunk),
    start,
    blockTable: table.view(),
    logitsFor: rows,
    wishes: rows.map((offset): RowWish => {
      const next = start + offset + 1;
      if (next < promptLength) return { kind: 'score', id: tokens[next]!, alternatives: request.promptLogprobs ?? 0 };
      return {
        kind: 'draw',
        sampling: request.sampling,
        noise: positionNoise(sequence.noiseKey, request.choice, next - promptLength),
        adjustments: sequence.adjustments,
        logprobs: request.logprobs,
        // Which row draws the sequence's last token is not known before all have.
        slot: drafts ? null : slot,
        pending: unknown,
        ahead: draft.subarray(0, offset),
      };
    }),
  };
}

function tokensOf({ sequence, start, count, draft }: PlannedChunk): Int32Array {
  const { tokens, length } = sequence;
  if (draft.length === 0) return tokens.subarray(start, start + count);
  const all = new Int32Array(count);
  all.set(tokens.subarray(start, length));
  all.set(draft, length - start);
  return all;
}

/**
 * What a chunk's results do, once it is counted as computed. `answers`: of chunk.rows. Logits that are not finite end the sequence as
 * `failed`, and it alone.
 */
export function advance(
  { sequence, start, rows, draft }: PlannedChunk,
  answers: readonly (RowAnswer | null)[],
): SequenceOutput {
  const output = standing(sequence);
  const scores: PositionLogprob[] = [];
  if (sequence.scoring && sequence.scored === 0) {
    scores.push({ id: sequence.tokens[0]!, logprob: null, top: [] });
    sequence.scored = 1;
  }
  let end: SequenceEnd | undefined;
  let accepted = 0;
  for (const [i, offset] of rows.entries()) {
    const next = start + offset + 1;
    const answer = answers[i]!;
    if (next < sequence.promptLength) {
      if (answer.logprob) scores.push(answer.logprob);
      else end = 'failed';
      sequence.scored = next + 1;
      continue;
    }
    end ??= generate(sequence, answer, output);
    if (answer.id !== draft[offset]) break;
    accepted += 1;
    if (end) break;
  }
  if (sequence.request.maxTokens === 0 && sequence.computed === sequence.length) end ??= 'length';
  if (scores.length > 0 && end !== 'failed') output.promptLogprobs = scores;
  if (draft.length > 0) output.drafts = { accepted, rejected: draft.length - accepted };
  if (end) output.end = end;
  return output;
}

/** Takes the next token into the output; how the sequence ends with it, if it does. */
function generate(sequence: Sequence, { id, logprob }: RowAnswer, output: SequenceOutput): SequenceEnd | undefined {
  const { request } = sequence;
  if (id === null) return 'failed';
  if (logprob) output.logprobs = [...(output.logprobs ?? []), logprob];
  output.ids.push(id);
  sequence.append(id);
  if (request.eosIds.includes(id)) return 'stop';
  return sequence.outputLength === request.maxTokens ? 'length' : undefined;
}
