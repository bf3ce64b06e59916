// What chat and text completions share on their way from pool events to OpenAI's objects: the head of every object, usage, logprobs,
// and the SSE framing of a chunk.
import type { FinishReason, LogprobEntry, PoolEvent, TokenLogprob, Usage } from '../../pool/wire/events.ts';
import type { Bill } from '../ledger/bill.ts';

export interface ShapeHead {
  id: string;
  /** Unix seconds. */
  created: number;
  model: string;
  system_fingerprint: string;
  /** Where the request named one. */
  service_tier?: string;
}

/** Turns the events of one request into the objects that its client gets. Holds what it needs to, bounded by max_tokens. */
export interface Shaper {
  /** Chunks of a stream for one event; `usage` is left to the caller. */
  chunks(event: PoolEvent): object[];
  /** A chunk without choices, to carry the usage. */
  usageChunk(): object;
}

/** Gathers the events of one request into one answer. */
export interface Collector {
  add(event: PoolEvent): void;
  answer(): object;
}

export interface UsageBody {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Drafts that the engine computed ahead; unlike OpenAI's, those rejected are in no other figure. */
  completion_tokens_details: { accepted_prediction_tokens: number; rejected_prediction_tokens: number };
}

/** What the client is told is what is billed; `told` by the pool: how it was computed. */
export function usageOf(bill: Omit<Bill, 'outcome'>, told: Usage): UsageBody {
  return {
    prompt_tokens: bill.inputTokens,
    completion_tokens: bill.outputTokens,
    total_tokens: bill.inputTokens + bill.outputTokens,
    prompt_tokens_details: { cached_tokens: bill.cachedInputTokens },
    completion_tokens_details: {
      accepted_prediction_tokens: told.accepted_prediction_tokens ?? 0,
      rejected_prediction_tokens: told.rejected_prediction_tokens ?? 0,
    },
  };
}

export function sseText(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

export const SSE_DONE = 'data: [DONE]\n\n';

/** A comment, which every reader of the format passes over. */
export const SSE_SILENCE = ': keep-alive\n\n';

export interface ChatLogprobs {
  content: (LogprobBody & { top_logprobs: LogprobBody[] })[];
  refusal: null;
}

interface LogprobBody {
  token: string;
  logprob: number;
  bytes: number[] | null;
}

function logprobBody({ token, logprob, bytes }: LogprobEntry): LogprobBody {
  return { token, logprob, bytes };
}

/** Lowest logprob that is told; stands for "no probability", as JSON has no -Infinity. */
const FLOOR_LOGPROB = -9999;

export function chatLogprobs(tokens: readonly TokenLogprob[]): ChatLogprobs {
  const content = tokens.map(({ top, ...entry }) => ({
    ...logprobBody({ ...entry, logprob: entry.logprob ?? FLOOR_LOGPROB }),
    top_logprobs: top.map(logprobBody),
  }));
  return { content, refusal: null };
}

/** Choices that have told their end; the others ran into their bound. */
export class Endings {
  readonly #ended = new Set<number>();
  readonly #choices: number;

  constructor(choices: number) {
    this.#choices = choices;
  }

  end(choice: number): void {
    this.#ended.add(choice);
  }

  /** Choices without an end, each once: they had nothing to generate. */
  rest(): { choice: number; finish_reason: FinishReason }[] {
    const all = Array.from({ length: this.#choices }, (_, choice) => choice);
    const rest = all.filter((choice) => !this.#ended.has(choice));
    for (const choice of rest) this.#ended.add(choice);
    return rest.map((choice) => ({ choice, finish_reason: 'length' }));
  }
}
