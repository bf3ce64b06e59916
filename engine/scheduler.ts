// Decides, step by step, which sequences run and how many tokens each computes. There is no prefill or decode phase: a running
// sequence has known tokens without KV, and each step gives it some. The scheduler knows counts, never blocks' insides; it has no
// clock, does no waiting and touches no GPU.
//
//   step =  1 expire      deadlines passed: blocks freed, sequence ended
//           2 make room   a decode that needs a block preempts when none is left
//           3 admit       by fair queue, if nothing was preempted; all blocks of the known tokens at once
//           4 divide      one token to each decode, then the rest of the budget to prompts, least served tenant first
//
// Progress: a sequence's known tokens are allocated at admission, so only growth by decoding can run out of blocks. The victim is the
// one with the least to recompute, but one preempted MAX_PREEMPTIONS times already only yields to an older one: the oldest is never
// a victim in the end, and what runs alone always fits (refused at submission otherwise). So no two preempt one another for ever.
import type { Admission, BlockTable } from './blockManager.ts';
import { FairQueue } from './fairQueue.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { nextChunk, type Sequence } from './sequence.ts';

/** After so many preemptions a sequence yields only to older ones. */
const MAX_PREEMPTIONS = 2;

/** Queued sequences looked at per step that turn out to wait for a running one's prompt: bounds the time of a step. */
const MAX_PUT_OFF = 16;

export interface StepLimits {
  /** Sequences running at once. */
  maxRunning: number;
  /** Tokens, and wanted logits rows, of one step. */
  maxStepTokens: number;
  maxStepLogits: number;
}

/** What the scheduler may ask of the block manager. */
export interface BlockAccount {
  cachedPrefix(scope: string | null, tokens: Int32Array, maxTokens: number): number;
  admit(request: Admission): BlockTable | null;
  grow(table: BlockTable, positions: number): boolean;
  sharedPositions(table: BlockTable): number;
  release(table: BlockTable): void;
}

export interface PlannedChunk {
  sequence: Sequence;
  count: number;
  /** Offsets into the chunk whose logits are wanted. */
  rows: number[];
}

export interface StepPlan {
  chunks: PlannedChunk[];
  /** Ended by their deadline, now. */
  expired: Sequence[];
}

export class Scheduler {
  readonly queue = new FairQueue();
  readonly #blocks: BlockAccount;
  readonly #limits: StepLimits;
  readonly #running: Sequence[] = [];
  #preemptions = 0;

  constructor(blocks: BlockAccount, limits: StepLimits) {
    this.#blocks = blocks;
    // Each running sequence must be able to get a token and a logits row in every step.
    const maxRunning = Math.min(limits.maxRunning, limits.maxStepTokens, limits.maxStepLogits);
    invariant(maxRunning >= 1, 'a step has room for a sequence', { ...limits });
    this.#limits = { ...limits, maxRunning };
  }

  /** In order of admission. */
  get running(): readonly Sequence[] {
    return this.#running;
  }

  get preemptions(): number {
    return this.#preemptions;
  }

  plan(nowMs: number): StepPlan {
    const expired = this.#expire(nowMs);
    if (!this.#makeRoom()) this.#admit();
    const chunks = this.#divide();
    invariant(chunks.length > 0 || this.queue.size === 0, 'something runs while something waits', {
      waiting: this.queue.size,
      running: this.#running.length,
    });
    return { chunks, expired };
  }

  /** Ends a sequence wherever it is: its blocks are free at once. `letGo` says what becomes of them. */
  finish(sequence: Sequence, letGo: (table: BlockTable) => void = (table) => this.#blocks.release(table)): void {
    if (!this.queue.remove(sequence)) this.#stop(sequence, letGo);
    this.queue.leave(sequence);
  }

  #expire(nowMs: number): Sequence[] {
    const expired = [...this.#running, ...this.queue].filter((sequence) => sequence.request.deadlineMs <= nowMs);
    for (const sequence of expired) this.finish(sequence);
    return expired;
  }

  /** Gets each decode the block of its next position; true when somebody had to go for it. */
  #makeRoom(): boolean {
    const before = this.#preemptions;
    for (const sequence of [...this.#running]) {
      while (sequence.table && !this.#blocks.grow(sequence.table, sequence.length)) this.#preempt(this.#victim());
    }
    return this.#preemptions > before;
  }

  #victim(): Sequence {
    const yielding = this.#running.filter((sequence) => sequence.preemptions < MAX_PREEMPTIONS);
    const [pool, cost] =
      yielding.length > 0
        ? ([yielding, (sequence: Sequence) => this.#recompute(sequence)] as const)
        : ([this.#running, () => 0] as const);
    invariant(pool.length > 0, 'who needs a block is running');
    return pool.reduce((victim, other) => {
      const difference = cost(other) - cost(victim);
      return difference < 0 || (difference === 0 && other.arrival > victim.arrival) ? other : victim;
    });
  }

  /** Positions that would have to be computed again: those in blocks that nobody else holds. */
  #recompute(sequence: Sequence): number {
    return sequence.table ? Math.max(0, sequence.computed - this.#blocks.sharedPositions(sequence.table)) : 0;
  }

  #preempt(sequence: Sequence): void {
    this.#stop(sequence, (table) => this.#blocks.release(table));
    sequence.computed = 0;
    sequence.preemptions += 1;
    this.#preemptions += 1;
    this.queue.requeue(sequence);
  }

  #stop(sequence: Sequence, letGo: (table: BlockTable) => void): void {
    const place = this.#running.indexOf(sequence);
    invariant(place >= 0 && sequence.table, 'a living sequence waits or runs', { arrival: sequence.arrival });
    this.#running.splice(place, 1);
    this.queue.disown(sequence);
    letGo(sequence.table);
    sequence.table = null;
  }

  #admit(): void {
    const putOff = new Set<Sequence>();
    while (this.#running.length < this.#limits.maxRunning && putOff.size < MAX_PUT_OFF) {
      const preempted = this.queue.firstPreempted();
      const sequence = preempted ?? this.queue.first(putOff);
      if (!sequence) return;
      if (!preempted && this.#sharesWithRunning(sequence)) {
        putOff.add(sequence);
        continue;
      }
      // Whoever is first and does not fit keeps its place: smaller ones must not pass it for ever.
      if (!this.#start(sequence)) return;
    }
  }

  #start(sequence: Sequence): boolean {
    const { cache } = sequence.request;
    const table = this.#blocks.admit({
      scope: cache?.scope.namespace ?? null,
      ...(cache && { extra: cache.extra, account: cache.account, retention: cache.retention }),
      tokens: sequence.tokens,
      positions: sequence.length,
      maxCached: sequence.maxCached,
      capacityPositions: sequence.mostPositions,
      // Each running sequence may soon want its next block: admitting without that room would only preempt again.
      headroomBlocks: this.#running.length,
    });
    if (!table) return false;
    this.queue.remove(sequence);
    this.#running.push(sequence);
    sequence.table = table;
    sequence.computed = table.cachedPositions;
    if (sequence.cachedTokens === null) {
      sequence.cachedTokens = sequence.computed;
      sequence.unpaid = sequence.promptLength - sequence.computed;
    }
    this.queue.owe(sequence);
    return true;
  }

  /** Whether a running sequence is about to publish a block of this prompt: waiting for it is cheaper than computing it twice. */
  #sharesWithRunning(sequence: Sequence): boolean {
    const namespace = sequence.request.cache?.scope.namespace;
    if (namespace === undefined) return false;
    const twins = this.#running.filter(
      (other) => other.request.cache?.scope.namespace === namespace && other.pending > 1,
    );
    if (twins.length === 0) return false;
    const next = this.#blocks.cachedPrefix(namespace, sequence.tokens, sequence.maxCached) + BLOCK_TOKENS;
    if (next > sequence.maxCached) return false;
    return twins.some((other) => {
      if (next > other.length || next <= other.computed) return false;
      for (let i = 0; i < next; i++) if (sequence.tokens[i] !== other.tokens[i]) return false;
      return true;
    });
  }

  #divide(): PlannedChunk[] {
    const decodes = this.#running.filter((sequence) => sequence.pending === 1);
    const prompts = this.#running.filter((sequence) => sequence.pending > 1).sort((a, b) => this.queue.compare(a, b));
    let tokens = this.#limits.maxStepTokens;
    let rows = this.#limits.maxStepLogits;
    const chunks: PlannedChunk[] = [];
    for (const [place, sequence] of [...decodes, ...prompts].entries()) {
      // A prompt whose every position is scored leaves one row to each sequence after it.
      const after = decodes.length + prompts.length - place - 1;
      const { count, rows: wanted } = nextChunk(sequence, tokens, Math.max(0, rows - after));
      if (count === 0) continue;
      chunks.push({ sequence, count, rows: wanted });
      tokens -= count;
      rows -= wanted.length;
    }
    return chunks;
  }
}
