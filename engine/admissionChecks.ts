// What a request must be before it may queue: consistent, which is the caller's duty, and possible on this pool, which the client
// is told with the numbers.
import { blocksFor } from './blockManager.ts';
import { invariant } from './invariant.ts';
import type { ModelRunner } from './modelRunner.ts';
import type { Refusal, SequenceRequest } from './request.ts';
import { mostPositions } from './sequence.ts';

/** Throws InvariantViolation for what the caller must have checked. */
export function checkConsistent(
  requests: readonly SequenceRequest[],
  vocabSize: number,
  lives: (id: string) => boolean,
): void {
  invariant(requests.length > 0, 'a request has a choice');
  const ids = new Set<string>();
  for (const { id, tenant, weight, promptIds, outputIds, scored = 0, maxTokens, eosIds, promptLogprobs } of requests) {
    invariant(!ids.has(id) && !lives(id), 'a sequence id is unique while it lives', { id });
    invariant(tenant === requests[0]!.tenant, 'the choices of a request are one tenant’s', { id });
    invariant(weight > 0 && Number.isFinite(weight), 'a weight is positive', { weight });
    invariant(promptIds.length > 0 && maxTokens >= 0, 'a prompt has a token', { id, maxTokens });
    for (const token of promptIds)
      invariant(token >= 0 && token < vocabSize, 'a token is of the vocabulary', { token });
    invariant(scored >= 0 && scored <= promptIds.length, 'no more is scored than the prompt', { id, scored });
    ids.add(id);
    if (!outputIds?.length) continue;
    invariant(outputIds.length < maxTokens, 'who goes on has something to draw', { id, maxTokens });
    invariant(promptLogprobs === null || scored === promptIds.length, 'a prompt is scored before its output', { id });
    for (const token of outputIds) {
      invariant(token >= 0 && token < vocabSize, 'a token is of the vocabulary', { token });
      invariant(!eosIds.includes(token), 'who goes on has not ended', { id });
    }
  }
}

/** Refuses what could not even run alone. */
export function refuseImpossible(
  requests: readonly SequenceRequest[],
  { contextLength, capacityBlocks }: Pick<ModelRunner, 'contextLength' | 'capacityBlocks'>,
): Refusal | null {
  for (const request of requests) {
    const prompt = request.promptIds.length;
    const need = `${prompt} prompt tokens and max_tokens ${request.maxTokens}`;
    if (prompt + request.maxTokens > contextLength)
      return {
        code: 'context_length_exceeded',
        message: `${need} exceed the context length of ${contextLength}. Shorten the prompt or lower max_tokens.`,
      };
    if (blocksFor(mostPositions(request)) > capacityBlocks)
      return {
        code: 'context_length_exceeded',
        message: `${need} need ${blocksFor(mostPositions(request))} KV blocks of the ${capacityBlocks} that this pool has. Shorten the prompt or lower max_tokens.`,
      };
  }
  return null;
}
