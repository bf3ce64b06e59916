// One choice of one request while it lives: its tokens so far, how many of them have KV, and what has been released. All the rest
// (blocks, queue place, sampling) hangs off these counts; preemption only resets them, so nothing released is ever redone.
//
//   0          computed       scheduled        length   expectedLength
//   ├── has KV ────┤── in steps ──┤── pending ────┤── drawn ──┤        drawn: tokens that steps in flight will add
//
// computed ≤ scheduled ≤ expectedLength at any time; computed = scheduled and drawn = 0 when no step is in flight. Drafts are in none of
// these counts until they are drawn: while a step computes some, how far the sequence gets is open, and nothing more of it is pending.
import type { BlockTable } from './blockManager.ts';
import type { DeviceShare, SequenceUse } from './deviceShare.ts';
import { adjustmentsOf, type LogitAdjustments } from './logitAdjustments.ts';
import { type PhiloxKey, seedKey } from './noise.ts';
import type { SequenceEnd, SequenceRequest } from './request.ts';
import type { Drafter } from './speculation/drafter.ts';
import type { CachedPath } from './tiers/port.ts';

/** Where a sequence is. `waiting` by itself, `following` another's prompt, `preempted` back in the queue, `loading` from a tier. */
export type SequenceState = 'waiting' | 'following' | 'preempted' | 'loading' | 'running' | 'ended';

/** Blocks on their way from a tier into the sequence's table. */
export interface BlockLoad {
  readonly path: CachedPath;
  /** First of the table's blocks to be loaded, and how many. */
  readonly from: number;
  readonly count: number;
  /** When it is given up. */
  readonly untilMs: number;
  readonly abort: AbortController;
}

export class Sequence {
  readonly request: SequenceRequest;
  /** Order of arrival, unique. */
  readonly arrival: number;
  /** Prompt, then output; [promptLength + maxTokens] of which `length` are known. */
  readonly tokens: Int32Array;
  length: number;
  /** Tokens that the request brought: the prompt, and output of an earlier life. */
  readonly given: number;
  /** Positions that have KV. */
  computed = 0;
  /** Positions that will have KV once all planned steps are done. */
  scheduled = 0;
  /** Output tokens that planned steps will draw. */
  drawn = 0;
  /** Drafts in the step in flight. */
  drafted = 0;
  /** Opened when it decodes on an engine that speculates, gone with its table. */
  drafter: Drafter | null = null;
  /** Rises with each preemption: a chunk of an earlier run is void. */
  run = 0;
  state: SequenceState = 'waiting';
  readonly noiseKey: PhiloxKey;
  /** null: neither bias nor penalties. */
  readonly adjustments: LogitAdjustments | null;
  /** Of the runner, for its drawn tokens; held with the table. */
  slot: number | null = null;
  /** Held while running or loading. */
  table: BlockTable | null = null;
  /** Under way while loading. */
  load: BlockLoad | null = null;
  /** Step after which it waits for nobody's prompt any more; null: has not begun to. */
  followUntilStep: number | null = null;
  /** Prompt positions whose logprobs have been released. */
  scored = 0;
  preemptions = 0;
  /** The device's time that was its. */
  readonly device: DeviceShare = { prefillMs: 0, decodeMs: 0 };
  /** Tokens computed for it in all, recomputed ones included. */
  computedTokens = 0;
  /** Given tokens that its tenant is still to be charged for; set at the first admission. */
  unpaid = 0;
  /** Prompt tokens answered from the cache at the first admission; null before it. */
  cachedTokens: number | null = null;
  /** Whether `cachedTokens` has been told. */
  announced = false;
  end: SequenceEnd | null = null;

  constructor(request: SequenceRequest, arrival: number) {
    const { promptIds, outputIds = [], scored = 0, maxTokens, sampling } = request;
    this.request = request;
    this.arrival = arrival;
    this.tokens = new Int32Array(promptIds.length + maxTokens);
    this.tokens.set(promptIds);
    this.length = promptIds.length;
    this.scored = scored;
    this.noiseKey = seedKey(sampling.seed);
    this.adjustments = adjustmentsOf(sampling, promptIds);
    // One that goes on elsewhere begins as one that was preempted: its output is known and has no KV.
    for (const id of outputIds) this.append(id);
    this.given = this.length;
  }

  get promptLength(): number {
    return this.request.promptIds.length;
  }

  get outputLength(): number {
    return this.length - this.promptLength;
  }

  get expectedLength(): number {
    return this.length + this.drawn;
  }

  /** Tokens, known or about to be, that need KV and are in no step yet. */
  get pending(): number {
    if (this.drafted > 0) return 0;
    return Math.min(this.expectedLength, this.mostPositions) - this.scheduled;
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

  /** What it was served so far. */
  get use(): SequenceUse {
    const { id, outputIds } = this.request;
    return {
      ...{ id, promptTokens: this.promptLength, cachedTokens: this.cachedTokens ?? 0 },
      ...{ outputTokens: this.outputLength - (outputIds?.length ?? 0), ...this.device },
    };
  }

  append(token: number): void {
    this.adjustments?.add(token);
    this.tokens[this.length++] = token;
  }
}

export function mostPositions(request: SequenceRequest): number {
  return request.promptIds.length + Math.max(0, request.maxTokens - 1);
}

/** Offsets of a decode: its only token. */
const ONLY_ROW: readonly number[] = [0];
const NO_ROWS: readonly number[] = [];

/**
 * The sequence's next chunk: as many pending tokens as fit into `maxTokens` tokens and `maxRows` wanted logits rows.
 * `rows` are offsets into the chunk: position i's logits give the logprob of prompt token i + 1, the last one's the next token.
 */
export function nextChunk(
  sequence: Sequence,
  maxTokens: number,
  maxRows: number,
): { count: number; rows: readonly number[] } {
  const { scheduled, expectedLength, promptLength, scored, pending } = sequence;
  const samples = sequence.request.maxTokens > 0;
  const most = Math.min(pending, maxTokens);
  if (!sequence.scoring) {
    if (most <= 0) return { count: 0, rows: NO_ROWS };
    if (!samples || scheduled + most < expectedLength) return { count: most, rows: NO_ROWS };
    if (maxRows > 0) return { count: most, rows: most === 1 ? ONLY_ROW : [most - 1] };
    return { count: most - 1, rows: NO_ROWS };
  }
  const rows: number[] = [];
  let count = 0;
  for (; count < most; count++) {
    const next = scheduled + count + 1;
    const wanted = next === expectedLength ? samples : next >= scored && next < promptLength;
    if (wanted && rows.length === maxRows) break;
    if (wanted) rows.push(count);
  }
  return { count, rows };
}
