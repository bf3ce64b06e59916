// Whether a request may join the queue. Everything that cannot be served in reasonable time is refused at once, with a time
// after which there is probably room: the work that has to leave the queue first, at the speed seen lately.
import type { FairQueue } from './fairQueue.ts';
import type { Refusal, SequenceRequest } from './request.ts';

export interface QueueLimits {
  /** Sequences waiting, over all tenants: bounds memory and the time to scan the queue in each step. */
  maxWaiting: number;
  /** Prompt and possible output tokens waiting, over all tenants: bounds the time that a request spends waiting. */
  maxWaitingTokens: number;
  /** The same for one tenant, so that one cannot fill the queue for all. */
  maxWaitingPerTenant: number;
  maxWaitingTokensPerTenant: number;
}

export const DEFAULT_QUEUE_LIMITS: QueueLimits = {
  maxWaiting: 512,
  maxWaitingTokens: 2 ** 21,
  maxWaitingPerTenant: 256,
  maxWaitingTokensPerTenant: 2 ** 20,
};

/** Told before any speed is known, and the range that a retry time is kept to. */
const UNKNOWN_RETRY_MS = 1_000;
const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 60_000;

/** Milliseconds until `tokens` have been computed at `tokensPerMs`; 0: speed not known yet. */
export function retryAfterMs(tokens: number, tokensPerMs: number): number {
  if (tokensPerMs <= 0) return UNKNOWN_RETRY_MS;
  return Math.round(Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, tokens / tokensPerMs)));
}

/**
 * Refuses what does not fit into the queue as a whole. All of `requests` are one tenant's. An empty queue takes any one request, so
 * that none is told for ever to come back later.
 */
export function refuseOverload(
  requests: readonly SequenceRequest[],
  queue: FairQueue,
  limits: QueueLimits,
  tokensPerMs: number,
): Refusal | null {
  const count = requests.length;
  const tokens = requests.reduce((sum, request) => sum + request.promptIds.length + request.maxTokens, 0);
  const own = queue.waitingOf(requests[0]!.tenant);
  const bounds: [
    what: string,
    holds: number,
    adds: number,
    limit: number,
    tokensHeld: number,
    sequencesHeld: number,
  ][] = [
    ['requests of this tenant', own.sequences, count, limits.maxWaitingPerTenant, own.tokens, own.sequences],
    ['tokens of this tenant', own.tokens, tokens, limits.maxWaitingTokensPerTenant, own.tokens, own.sequences],
    ['requests', queue.waiting, count, limits.maxWaiting, queue.waitingTokens, queue.waiting],
    ['tokens', queue.waitingTokens, tokens, limits.maxWaitingTokens, queue.waitingTokens, queue.waiting],
  ];
  for (const [what, holds, adds, limit, tokensHeld, sequencesHeld] of bounds) {
    if (holds === 0 || holds + adds <= limit) continue;
    // What must leave first: the excess in tokens, or as many requests as there are too many, at their average size.
    const excess = Math.min(holds, holds + adds - limit);
    const work = what.startsWith('tokens') ? excess : (excess * tokensHeld) / Math.max(1, sequencesHeld);
    return {
      code: 'overloaded',
      message: `The queue is full: ${holds} ${what} are waiting, ${adds} more would pass the limit of ${limit}. Retry later.`,
      retryAfterMs: retryAfterMs(work, tokensPerMs),
    };
  }
  return null;
}
