// Decides, step by step, which sequences run and how many tokens each computes. There is no prefill or decode phase: a running
// sequence has known tokens without KV, and each step gives it some. The scheduler knows counts, never blocks' insides; it has no
// clock, does no waiting and touches no GPU.
//
//   prepare   1 expire      deadlines passed: blocks freed, sequence ended         needs no result of the step before, so the host
//             2 admit       by fair queue; all blocks of the known tokens at once  does it while that step is on the GPU
//   plan      3 prepare     for what has come since
//             4 make room   a decode that needs a block preempts when none is left
//             5 reclaim     a tenant below its share takes a slot from one above
//             6 divide      one token to each decode, then the rest of the budget to prompts, least served tenant first
//             7 speculate   drafts in what is then left of tokens, rows and blocks: nobody goes or waits for one
//   take, settle            what a step computed: counted, charged, published; an ended sequence's chunk is void
//
// Progress: a sequence's known tokens are allocated at admission, so only growth by decoding can run out of blocks. The victim is the
// one with the least to recompute, but one preempted MAX_PREEMPTIONS times already only yields to an older one: the oldest is never
// a victim in the end, and what runs alone always fits (refused at submission otherwise). So no two preempt one another for ever.
// A plan may be made while the step before it is still computed: `scheduled` and `drawn` count on the running to go on, and `due`
// drops from it what did not.
import type { Admission, BlockTable } from './blockManager.ts';
import { BlocksInFlight } from './blocksInFlight.ts';
import { FairQueue, type TokenCosts } from './fairQueue.ts';
import { IndexedHeap } from './indexedHeap.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { preemptionVictim } from './preemption.ts';
import { Shares } from './reclaim.ts';
import { type BlockSource, planLoad, recomputeCost } from './reload.ts';
import type { Sequence } from './sequence.ts';
import { auditCounts } from './sequenceAudit.ts';
import type { Speculator } from './speculation/speculator.ts';
import {
  divide,
  inStep,
  type PlannedChunk,
  type Preparation,
  type StepLimits,
  type StepPlan,
  valid,
} from './stepPlan.ts';

export type { PlannedChunk, Preparation, StepLimits, StepPlan } from './stepPlan.ts';

/** Queued sequences found to wait for another's prompt in one pass: bounds the time of a step. The next one goes on with the rest. */
const MAX_FOLLOWED = 16;

/** A tenant that asks seldom may go before others by so many steps' worth of service: enough for a prompt of that length. */
const CREDIT_STEPS = 4;

/** What the scheduler may ask of the block manager. */
export interface BlockAccount {
  readonly capacityBlocks: number;
  readonly availableBlocks: number;
  readonly publicPrefixes: { leadingBlocks(tokens: Int32Array, length: number): number };
  cachedPrefix(scope: string | null, tokens: Int32Array, maxTokens: number, extra?: string, known?: number): number;
  admit(request: Admission): BlockTable | null;
  grow(table: BlockTable, positions: number): boolean;
  publish(table: BlockTable, tokens: Int32Array, computed: number): void;
  sharedPositions(table: BlockTable): number;
  release(table: BlockTable): void;
}

export class Scheduler {
  readonly queue: FairQueue;
  readonly #blocks: BlockAccount;
  readonly #limits: StepLimits;
  readonly #source: BlockSource | null;
  readonly #speculator: Speculator | null;
  readonly #inFlight: BlocksInFlight;
  readonly #running: Sequence[] = [];
  /** Slots given back; those from the number of slots ever given out on have never been used. */
  readonly #freeSlots: number[] = [];
  readonly #deadlines = new IndexedHeap<Sequence>(
    (a, b) => (a.request.deadlineMs - b.request.deadlineMs || a.arrival - b.arrival) < 0,
  );
  #loading = 0;
  /** Of the latest plan or preparation. */
  #nowMs = 0;
  #step = 0;
  #preemptions = 0;
  /** The plan before preempted: nobody is admitted until the next has seen whether that is enough. */
  #cramped = false;

  constructor(
    blocks: BlockAccount,
    limits: StepLimits,
    options: { costs?: TokenCosts; source?: BlockSource | null; speculator?: Speculator | null } = {},
  ) {
    this.#blocks = blocks;
    // Each running sequence must be able to get a token and a logits row in every step.
    const maxRunning = Math.min(limits.maxRunning, limits.maxStepTokens, limits.maxStepLogits);
    invariant(maxRunning >= 1, 'a step has room for a sequence', { ...limits });
    this.#limits = { ...limits, maxRunning };
    this.#source = options.source ?? null;
    this.#speculator = options.speculator ?? null;
    this.queue = new FairQueue(options.costs, CREDIT_STEPS * limits.maxStepTokens);
    this.#inFlight = new BlocksInFlight(limits.maxStepTokens);
  }

  /** In order of admission; those whose blocks are being loaded included. */
  get running(): readonly Sequence[] {
    return this.#running;
  }

  get loading(): number {
    return this.#loading;
  }

  get preemptions(): number {
    return this.#preemptions;
  }

  /** A new sequence joins the queue. */
  push(sequence: Sequence): void {
    this.queue.push(sequence);
    if (sequence.request.deadlineMs < Number.POSITIVE_INFINITY) this.#deadlines.add(sequence);
  }

  /** What can be decided before the results of a step in flight are known. Preempts nobody. */
  prepare(nowMs: number): Preparation {
    const prepared: Preparation = { expired: [], loads: [] };
    this.#expire(nowMs, prepared.expired);
    if (!this.#cramped) this.#admit(prepared.loads, false);
    return prepared;
  }

  plan(nowMs: number): StepPlan {
    this.#step += 1;
    const plan: StepPlan = { expired: [], loads: [], chunks: [] };
    this.#expire(nowMs, plan.expired);
    this.#giveUpLoads();
    for (const sequence of this.#inFlight.impatient(this.#step)) this.queue.unfollow(sequence);
    this.#cramped = this.#makeRoom();
    if (!this.#cramped) this.#admit(plan.loads, true);
    // What a step in flight is still drawing may be what drafts hang on: then its end is waited for.
    if (!this.#speculator?.shouldWait(this.#running)) plan.chunks = divide(this.#running, this.queue, this.#limits);
    this.#speculator?.extend(plan.chunks, (sequence, drafts) => this.#roomForDrafts(sequence, drafts));
    invariant(
      plan.chunks.length > 0 || this.queue.size === 0 || this.#loading > 0 || this.#running.some(inStep),
      'something goes on while something waits',
      { waiting: this.queue.size, running: this.#running.length },
    );
    return plan;
  }

  /** The chunk's step is done; false when nobody wants its result any more. */
  take(chunk: PlannedChunk): boolean {
    if (!valid(chunk)) return false;
    const { sequence, start, count, draws, draft } = chunk;
    invariant(sequence.computed === start, 'steps are taken in order', { computed: sequence.computed, start });
    sequence.computed += count - draft.length;
    if (draws) sequence.drawn -= 1;
    sequence.drafted = 0;
    return true;
  }

  /**
   * After `take`, with the drawn tokens appended: charges, publishes what is complete, and lets those go on who waited for it. Of several
   * tokens that one chunk drew, all but the last were drafts and have their KV from it; drafts that were not drawn count nowhere.
   */
  settle({ sequence, count, draft }: PlannedChunk, released: number, trusted: boolean): void {
    const accepted = Math.max(0, released - 1);
    sequence.computed += accepted;
    sequence.scheduled += accepted;
    const computed = count - draft.length + accepted;
    this.queue.charge(sequence, computed, released);
    sequence.computedTokens += computed;
    if (trusted) this.#publish(sequence);
  }

  /**
   * `blocks` of what the sequence waited for are in its table. True when it waits for more: a long hit is loaded in parts. Otherwise it
   * computes the rest.
   */
  loaded(sequence: Sequence, blocks: number): boolean {
    const { load } = sequence;
    invariant(load && sequence.state === 'loading' && blocks <= load.count, 'who loads waits for it', { blocks });
    this.#endLoad(sequence);
    const reached = (load.from + blocks) * BLOCK_TOKENS;
    if (reached > sequence.computed) {
      this.queue.disown(sequence);
      this.#answered(sequence, reached);
      this.#publish(sequence);
    }
    return blocks === load.count && this.#load(sequence);
  }

  /** Ends a sequence wherever it is: its blocks are free at once. `letGo` says what becomes of them. */
  finish(sequence: Sequence, letGo: (table: BlockTable) => void = (table) => this.#blocks.release(table)): void {
    if (this.queue.remove(sequence)) this.#inFlight.forget(sequence);
    else this.#stop(sequence, letGo);
    this.#deadlines.delete(sequence);
    this.queue.leave(sequence);
  }

  /** Self-check, O(running + waiting). */
  checkInvariants(): void {
    this.#inFlight.checkInvariants();
    auditCounts(this.#running, this.queue, this.#loading);
  }

  #expire(nowMs: number, expired: Sequence[]): void {
    this.#nowMs = nowMs;
    for (let next = this.#deadlines.first; next && next.request.deadlineMs <= nowMs; next = this.#deadlines.first) {
      this.finish(next);
      expired.push(next);
    }
  }

  /** Who has waited too long for blocks computes them. */
  #giveUpLoads(): void {
    if (this.#loading === 0) return;
    for (const sequence of this.#running) {
      if (!sequence.load || sequence.load.untilMs > this.#nowMs) continue;
      sequence.load.abort.abort();
      this.loaded(sequence, 0);
    }
  }

  /** Gets each decode the block of its next position; true when somebody had to go for it. */
  #makeRoom(): boolean {
    const before = this.#preemptions;
    for (let i = 0; i < this.#running.length; ) {
      const sequence = this.#running[i]!;
      const positions = sequence.scheduled + sequence.pending;
      if (this.#blocks.grow(sequence.table!, positions)) i += 1;
      else {
        const victim = preemptionVictim(this.#running, (other) => this.#recompute(other));
        const place = this.#running.indexOf(victim);
        this.#preempt(victim);
        if (place < i) i -= 1;
      }
    }
    return this.#preemptions > before;
  }

  /**
   * How many of `drafts` the sequence has blocks for, or may get one for early: only where nobody waits, and each running sequence would
   * still find its next one.
   */
  #roomForDrafts({ table, length }: Sequence, drafts: number): number {
    const covered = table!.length * BLOCK_TOKENS - length;
    const spare = this.queue.size === 0 ? this.#blocks.availableBlocks - this.#running.length : 0;
    const fitting = Math.min(drafts, covered + Math.max(0, spare) * BLOCK_TOKENS);
    invariant(this.#blocks.grow(table!, length + fitting), 'there is room for what fits', { fitting });
    return fitting;
  }

  /** What preempting it wastes, in prompt tokens. */
  #recompute(sequence: Sequence): number {
    const shared = this.#blocks.sharedPositions(sequence.table!);
    return recomputeCost(sequence, shared, this.#source, this.#publicPositions(sequence));
  }

  #preempt(sequence: Sequence): void {
    this.#stop(sequence, (table) => this.#blocks.release(table));
    sequence.run += 1;
    sequence.computed = 0;
    sequence.scheduled = 0;
    sequence.drawn = 0;
    sequence.drafted = 0;
    sequence.preemptions += 1;
    this.#preemptions += 1;
    this.queue.requeue(sequence);
  }

  #stop(sequence: Sequence, letGo: (table: BlockTable) => void): void {
    const place = this.#running.indexOf(sequence);
    invariant(place >= 0 && sequence.table, 'a living sequence waits or runs', { arrival: sequence.arrival });
    if (sequence.load) {
      sequence.load.abort.abort();
      this.#endLoad(sequence);
    }
    this.#running.splice(place, 1);
    this.queue.disown(sequence);
    letGo(sequence.table);
    sequence.table = null;
    this.#freeSlots.push(sequence.slot!);
    sequence.slot = null;
    sequence.drafter = null;
    this.#wake(this.#inFlight.leave(sequence));
  }

  #admit(loads: Sequence[], mayReclaim: boolean): void {
    for (let followed = 0; followed < MAX_FOLLOWED; ) {
      const preempted = this.queue.firstPreempted();
      const sequence = preempted ?? this.queue.first();
      if (!sequence) return;
      const vacant = this.#running.length < this.#limits.maxRunning;
      if (vacant && !preempted && this.#follows(sequence)) followed += 1;
      else if (!vacant || !this.#start(sequence, loads)) {
        // Whoever is first and does not fit keeps its place: smaller ones must not pass it for ever. But nobody's share has to wait for it.
        if (!mayReclaim || !this.#reclaim(sequence, loads)) return;
      }
    }
  }

  /** Starts the least served tenant's first sequence where that tenant is within its share, at the cost of those above theirs. */
  #reclaim(head: Sequence, loads: Sequence[]): boolean {
    const sequence = this.queue.first();
    if (!sequence || this.queue.activeWeight <= sequence.request.weight) return false;
    const shares = new Shares(this.#running, {
      maxRunning: this.#limits.maxRunning,
      blocks: this.#blocks.capacityBlocks,
      availableBlocks: this.#blocks.availableBlocks,
      activeWeight: this.queue.activeWeight,
    });
    if (!shares.entitled(sequence)) return false;
    // A preempted head above its share is passed, but only by who had less service: so its turn comes.
    if (sequence !== head && (shares.entitled(head) || this.queue.projected(sequence) > this.queue.projected(head)))
      return false;
    const yielding = shares.yielding(sequence, (other) => this.#recompute(other));
    if (!yielding) return false;
    if (this.#follows(sequence)) return true;
    for (const victim of yielding) this.#preempt(victim);
    return this.#start(sequence, loads);
  }

  #follows(sequence: Sequence): boolean {
    const { cache } = sequence.request;
    const publicPositions = this.#publicPositions(sequence);
    if (!cache || !this.#inFlight.leads(sequence, publicPositions)) return false;
    const { tokens, maxCached, length } = sequence;
    const cached = this.#blocks.cachedPrefix(cache.scope.namespace, tokens, maxCached, cache.extra, length);
    if (!this.#inFlight.follow(sequence, cached, publicPositions, this.#step)) return false;
    this.queue.follow(sequence);
    return true;
  }

  /** Leading positions whose blocks are the operator's: found by all tenants. A declaration that changes counts from the next admission on. */
  #publicPositions({ table, tokens, length, request: { cache } }: Sequence): number {
    if (!cache) return 0;
    return (table?.publicBlocks ?? this.#blocks.publicPrefixes.leadingBlocks(tokens, length)) * BLOCK_TOKENS;
  }

  #start(sequence: Sequence, loads: Sequence[]): boolean {
    const { account, cache } = sequence.request;
    const table = this.#blocks.admit({
      scope: cache?.scope.namespace ?? null,
      account,
      ...(cache && { extra: cache.extra, retention: cache.retention }),
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
    sequence.slot = this.#freeSlots.pop() ?? this.#running.length - 1;
    sequence.table = table;
    if (sequence.cachedTokens === null) sequence.unpaid = sequence.given;
    this.#answered(sequence, table.cachedPositions);
    if (this.#load(sequence)) loads.push(sequence);
    this.#inFlight.lead(sequence, this.#publicPositions(sequence));
    return true;
  }

  /** The sequence has KV up to `positions`, from a cache. What the cache answers before anything was computed is told and charged so. */
  #answered(sequence: Sequence, positions: number): void {
    const fresh = sequence.cachedTokens === null || (!sequence.announced && sequence.preemptions === 0);
    const before = sequence.cachedTokens ?? 0;
    sequence.computed = positions;
    sequence.scheduled = positions;
    if (fresh) {
      sequence.cachedTokens = Math.min(positions, sequence.promptLength);
      this.queue.chargeCached(sequence, sequence.cachedTokens - before);
    }
    sequence.unpaid = Math.min(sequence.unpaid, Math.max(0, sequence.given - positions));
    this.queue.owe(sequence);
  }

  /** Whether the sequence is to wait for blocks from the tiers. */
  #load(sequence: Sequence): boolean {
    sequence.load = this.#source && planLoad(sequence, this.#source, this.#publicPositions(sequence), this.#nowMs);
    if (!sequence.load) return false;
    sequence.state = 'loading';
    this.#loading += 1;
    return true;
  }

  #endLoad(sequence: Sequence): void {
    sequence.load = null;
    sequence.state = 'running';
    this.#loading -= 1;
  }

  #publish(sequence: Sequence): void {
    this.#blocks.publish(sequence.table!, sequence.tokens, sequence.computed);
    this.#wake(this.#inFlight.published(sequence));
  }

  #wake(followers: readonly Sequence[]): void {
    for (const follower of followers) this.queue.unfollow(follower);
  }
}
