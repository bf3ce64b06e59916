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

/** Milliseconds until `tokens` have left the queue at `tokensPerMs`; 0: speed not known yet. */
export function retryAfterMs(tokens: number, tokensPerMs: number): number {
  if (tokensPerMs <= 0) return UNKNOWN_RETRY_MS;
  return Math.round(Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, tokens / tokensPerMs)));
}

/**
 * Refuses what does not fit into the queue as a whole. All of `requests` are one tenant's. An empty queue takes any one request, so
 * that none is told for ever to come back later. `tokensPerMs`: the rate at which the whole queue empties; a tenant's part of it empties
 * at its share of that. 0: not known yet.
 */
export function refuseOverload(
  requests: readonly SequenceRequest[],
  queue: FairQueue,
  limits: QueueLimits,
  tokensPerMs: number,
): Refusal | null {
  const count = requests.length;
  const tokens = requests.reduce((sum, request) => sum + request.promptIds.length + request.maxTokens, 0);
  const { tenant, weight } = requests[0]!;
  const own = queue.waitingOf(tenant);
  const all = { sequences: queue.waiting, tokens: queue.waitingTokens };
  const bounds = [
    { what: 'requests of this tenant', held: own, adds: count, limit: limits.maxWaitingPerTenant },
    { what: 'tokens of this tenant', held: own, adds: tokens, limit: limits.maxWaitingTokensPerTenant },
    { what: 'requests', held: all, adds: count, limit: limits.maxWaiting },
    { what: 'tokens', held: all, adds: tokens, limit: limits.maxWaitingTokens },
  ];
  for (const { what, held, adds, limit } of bounds) {
    const inTokens = what.startsWith('tokens');
    const holds = inTokens ? held.tokens : held.sequences;
    if (holds === 0 || holds + adds <= limit) continue;
    // What must leave first: the excess in tokens, or as many requests as there are too many, at their average size.
    const excess = Math.min(holds, holds + adds - limit);
    const work = inTokens ? excess : (excess * held.tokens) / Math.max(1, held.sequences);
    const rate = tokensPerMs * (held === own ? queue.shareOf(tenant, weight) : 1);
    return {
      code: 'overloaded',
      message: `The queue is full: ${holds} ${what} are waiting, ${adds} more would pass the limit of ${limit}. Retry later.`,
      retryAfterMs: retryAfterMs(work, rate),
    };
  }
  return null;
}
