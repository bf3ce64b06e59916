// One choice of one request while it lives: its tokens so far, how many of them have KV, and what has been released. All the rest
// (blocks, queue place, sampling) hangs off these counts; preemption only resets `computed`, so nothing released is ever redone.
import type { BlockTable } from './blockManager.ts';
import { type PhiloxKey, seedKey } from './noise.ts';
import { penalises, TokenCounts } from './penalties.ts';
import type { SequenceEnd, SequenceRequest } from './request.ts';

export class Sequence {
  readonly request: SequenceRequest;
  /** Order of arrival, unique. */
  readonly arrival: number;
  /** Prompt, then output; [promptLength + maxTokens] of which `length` are known. */
  readonly tokens: Int32Array;
  length: number;
  /** Positions that have KV. While running there is at least one known token beyond. */
  computed = 0;
  readonly noiseKey: PhiloxKey;
  /** null: no penalties. */
  readonly counts: TokenCounts | null;
  /** Held while running. */
  table: BlockTable | null = null;
  /** Prompt positions whose logprobs have been released. */
  scored = 0;
  preemptions = 0;
  /** Prompt tokens that its tenant is still to be charged for; set at the first admission. */
  unpaid = 0;
  /** Prompt tokens answered from the cache at the first admission; null before it. */
  cachedTokens: number | null = null;
  /** Whether `cachedTokens` has been told. */
  announced = false;
  end: SequenceEnd | null = null;

  constructor(request: SequenceRequest, arrival: number) {
    this.request = request;
    this.arrival = arrival;
    this.tokens = new Int32Array(request.promptIds.length + request.maxTokens);
    this.tokens.set(request.promptIds);
    this.length = request.promptIds.length;
    this.noiseKey = seedKey(request.sampling.seed);
    const seen = request.sampling.repetitionPenalty === 1 ? new Int32Array(0) : request.promptIds;
    this.counts = penalises(request.sampling) ? new TokenCounts(seen) : null;
  }

  get promptLength(): number {
    return this.request.promptIds.length;
  }

  get outputLength(): number {
    return this.length - this.promptLength;
  }

  /** Known tokens without KV. */
  get pending(): number {
    return this.length - this.computed;
  }

  /** Prompt logprobs are still to be computed. */
  get scoring(): boolean {
    return this.request.promptLogprobs !== null && this.scored < this.promptLength;
  }

  /** Positions that may come from the cache: all before the first whose logits are wanted. */
  get maxCached(): number {
    return this.scoring ? Math.max(0, this.scored - 1) : this.length - 1;
  }

  /** Positions that ever need KV: the last output token needs none. */
  get mostPositions(): number {
    return mostPositions(this.request);
  }

  append(token: number): void {
    this.counts?.add(token);
    this.tokens[this.length++] = token;
  }
}

export function mostPositions(request: SequenceRequest): number {
  return request.promptIds.length + Math.max(0, request.maxTokens - 1);
}

/**
 * The sequence's next chunk: as many pending tokens as fit into `maxTokens` tokens and `maxRows` wanted logits rows.
 * `rows` are offsets into the chunk: position i's logits give the logprob of prompt token i + 1, the last known one's the next token.
 */
export function nextChunk(sequence: Sequence, maxTokens: number, maxRows: number): { count: number; rows: number[] } {
  const { computed, length, promptLength, scored } = sequence;
  const samples = sequence.request.maxTokens > 0;
  const rows: number[] = [];
  let count = 0;
  for (; count < Math.min(sequence.pending, maxTokens); count++) {
    const next = computed + count + 1;
    const wanted = next === length ? samples : sequence.scoring && next >= scored && next < promptLength;
    if (wanted && rows.length === maxRows) break;
    if (wanted) rows.push(count);
  }
  return { count, rows };
}
