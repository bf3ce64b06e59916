// A plan as the engine is asked for it: one sequence per choice. Pure: the serial number comes in.
import type { SequenceRequest } from '../engine/request.ts';
import type { Grant, Plan } from './plan.ts';

/** The engine's sequences, by choice; a choice that is over, or has nothing to compute, has none. */
export function sequencesOf(
  plan: Plan,
  grant: Grant,
  eosIds: ReadonlySet<number>,
  serial: number,
): Map<number, SequenceRequest> {
  const sequences = new Map<number, SequenceRequest>();
  for (const { choice, prompt, maxTokens, released, finish, ...planned } of plan.choices) {
    const ids = plan.prompts[prompt]!;
    const scored = plan.told[prompt]!;
    const promptLogprobs = scored < ids.length ? planned.promptLogprobs : null;
    if (finish !== null || (released.length === maxTokens && promptLogprobs === null)) continue;
    sequences.set(choice, {
      // The serial keeps a late output of a refused attempt from being taken for the next attempt's.
      id: `${grant.requestId}#${serial}/${choice}`,
      choice,
      tenant: grant.tenant,
      weight: grant.weight,
      priority: grant.priority,
      account: grant.account,
      cache: plan.cache,
      promptIds: Int32Array.from(ids),
      ...(released.length > 0 && { outputIds: Int32Array.from(released) }),
      maxTokens,
      sampling: plan.sampling,
      eosIds: [...eosIds],
      logprobs: plan.logprobs,
      promptLogprobs,
      ...(promptLogprobs !== null && { scored }),
      deadlineMs: grant.deadlineMs,
    });
  }
  return sequences;
}
