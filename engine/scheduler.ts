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
//   take, settle            what a step computed: counted, charged, published; an ended sequence's chunk is void
//
// Progress: a sequence's known tokens are allocated at admission, so only growth by decoding can run out of blocks. The victim is the
// one with the least to recompute, but one preempted MAX_PREEMPTIONS times already only yields to an older one: the oldest is never
// a victim in the end, and what runs alone always fits (refused at submission otherwise). So no two preempt one another for ever.
// A plan may be made while the step before it is still computed: `scheduled` and `drawn` count on the running to go on, and `due`
// drops from it what did not.
import { type Admission, type BlockTable, PUBLIC_NAMESPACE } from './blockManager.ts';
import { BlocksInFlight } from './blocksInFlight.ts';
import { FairQueue, type TokenCosts } from './fairQueue.ts';
import { IndexedHeap } from './indexedHeap.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { Shares } from './reclaim.ts';
import { nextChunk, type Sequence } from './sequence.ts';
import type { CachedPath, KvTiers } from './tiers/port.ts';

/** After so many preemptions a sequence yields only to older ones. */
const MAX_PREEMPTIONS = 2;

/** Queued sequences found to wait for another's prompt in one pass: bounds the time of a step. The next one goes on with the rest. */
const MAX_FOLLOWED = 16;

/** A tenant that asks seldom may go before others by so many steps' worth of service: enough for a prompt of that length. */
const CREDIT_STEPS = 4;

/** No key of the operator's comes with a request: public blocks stay in this process. */
const PUBLIC_SCOPE = { namespace: PUBLIC_NAMESPACE, sealKey: null };

export interface StepLimits {
  /** Sequences running at once. */
  maxRunning: number;
  /** Tokens, and wanted logits rows, of one step. */
  maxStepTokens: number;
  maxStepLogits: number;
}

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

/** Where KV blocks may come from besides the GPU, and what computing them costs instead. */
export interface BlockSource {
  tiers: Pick<KvTiers, 'probe' | 'maxLoadBlocks'>;
  /** Prompt tokens computed per millisecond, as measured; 0: not known yet. */
  prefillTokensPerMs: () => number;
}

export interface PlannedChunk {
  sequence: Sequence;
  /** Of which run of the sequence: a chunk planned before a preemption is void after it. */
  run: number;
  /** Position of its first token. */
  start: number;
  count: number;
  /** Offsets into the chunk whose logits are wanted. */
  rows: readonly number[];
  /** Whether its last row draws the sequence's next token. */
  draws: boolean;
}

export interface Preparation {
  /** Ended by their deadline, now. */
  expired: Sequence[];
  /** Admitted, with `load` saying which of their blocks are to be brought from the tiers. */
  loads: Sequence[];
}

export interface StepPlan extends Preparation {
  chunks: PlannedChunk[];
}

export class Scheduler {
  readonly queue: FairQueue;
  readonly #blocks: BlockAccount;
  readonly #limits: StepLimits;
  readonly #source: BlockSource | null;
  readonly #inFlight: BlocksInFlight;
  readonly #running: Sequence[] = [];
  readonly #deadlines = new IndexedHeap<Sequence>(
    (a, b) => (a.request.deadlineMs - b.request.deadlineMs || a.arrival - b.arrival) < 0,
  );
  #loading = 0;
  #step = 0;
  #preemptions = 0;
  /** The plan before preempted: nobody is admitted until the next has seen whether that is enough. */
  #cramped = false;

  constructor(
    blocks: BlockAccount,
    limits: StepLimits,
    options: { costs?: TokenCosts; source?: BlockSource | null } = {},
  ) {
    this.#blocks = blocks;
    // Each running sequence must be able to get a token and a logits row in every step.
    const maxRunning = Math.min(limits.maxRunning, limits.maxStepTokens, limits.maxStepLogits);
    invariant(maxRunning >= 1, 'a step has room for a sequence', { ...limits });
    this.#limits = { ...limits, maxRunning };
    this.#source = options.source ?? null;
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
    for (const sequence of this.#inFlight.impatient(this.#step)) this.queue.unfollow(sequence);
    this.#cramped = this.#makeRoom();
    if (!this.#cramped) this.#admit(plan.loads, true);
    this.#divide(plan.chunks);
    invariant(
      plan.chunks.length > 0 || this.queue.size === 0 || this.#loading > 0 || this.#running.some(inStep),
      'something goes on while something waits',
      { waiting: this.queue.size, running: this.#running.length },
    );
    return plan;
  }

  /** What of a plan is still to be computed: sequences may have ended or been preempted since it was made. */
  due(chunks: readonly PlannedChunk[]): PlannedChunk[] {
    return chunks.filter(valid);
  }

  /** The chunk's step is done; false when nobody wants its result any more. */
  take(chunk: PlannedChunk): boolean {
    if (!valid(chunk)) return false;
    const { sequence, start, count, draws } = chunk;
    invariant(sequence.computed === start, 'steps are taken in order', { computed: sequence.computed, start });
    sequence.computed += count;
    if (draws) sequence.drawn -= 1;
    return true;
  }

  /** After `take`, with the drawn tokens appended: charges, publishes what is complete, and lets those go on who waited for it. */
  settle({ sequence, count }: PlannedChunk, released: number, trusted: boolean): void {
    this.queue.charge(sequence, count, released);
    sequence.computedTokens += count;
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
    let loading = 0;
    for (const sequence of this.#running) {
      const { computed, scheduled, drawn, expectedLength, load, state, table } = sequence;
      invariant(table !== null, 'who runs holds blocks', { state });
      invariant((state === 'loading') === (load !== null), 'who loads has a load', { state });
      invariant(computed <= scheduled && scheduled <= expectedLength && drawn >= 0, 'counts are in order', {
        computed,
        scheduled,
        expectedLength,
        drawn,
      });
      if (load) loading += 1;
    }
    invariant(loading === this.#loading, 'loads are counted', { loading });
    for (const sequence of this.queue) {
      const { computed, scheduled, drawn, table, load, state } = sequence;
      invariant(!table && !load && computed + scheduled + drawn === 0, 'who waits holds nothing', { state });
    }
  }

  #expire(nowMs: number, expired: Sequence[]): void {
    for (let next = this.#deadlines.first; next && next.request.deadlineMs <= nowMs; next = this.#deadlines.first) {
      this.finish(next);
      expired.push(next);
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
        const victim = this.#victim();
        const place = this.#running.indexOf(victim);
        this.#preempt(victim);
        if (place < i) i -= 1;
      }
    }
    return this.#preemptions > before;
  }

  #victim(): Sequence {
    const yielding = this.#running.filter((sequence) => sequence.preemptions < MAX_PREEMPTIONS);
    const pool = yielding.length > 0 ? yielding : this.#running;
    let victim: Sequence | undefined;
    let least = 0;
    for (const sequence of pool) {
      const cost = yielding.length > 0 ? this.#recompute(sequence) : 0;
      if (victim && (cost > least || (cost === least && sequence.arrival < victim.arrival))) continue;
      victim = sequence;
      least = cost;
    }
    invariant(victim, 'who needs a block is running');
    return victim;
  }

  /** What preemption wastes, in prompt tokens: positions in blocks that nobody else holds, or what it costs to bring them back. */
  #recompute(sequence: Sequence): number {
    const { computed, table } = sequence;
    const shared = this.#blocks.sharedPositions(table!);
    const own = Math.max(0, computed - shared);
    const path = this.#cachedPath(sequence);
    const rate = this.#source?.prefillTokensPerMs() ?? 0;
    if (!this.#source || !path || own < BLOCK_TOKENS || rate === 0) return own;
    const { blocks, loadMs } = this.#source.tiers.probe(path, Math.floor(shared / BLOCK_TOKENS), computed);
    const kept = blocks * BLOCK_TOKENS;
    return own - kept + Math.min(kept, loadMs * rate);
  }

  #preempt(sequence: Sequence): void {
    this.#stop(sequence, (table) => this.#blocks.release(table));
    sequence.run += 1;
    sequence.computed = 0;
    sequence.scheduled = 0;
    sequence.drawn = 0;
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
    if (!cache) return false;
    const { tokens, maxCached, length } = sequence;
    const cached = this.#blocks.cachedPrefix(cache.scope.namespace, tokens, maxCached, cache.extra, length);
    if (!this.#inFlight.follow(sequence, cached, this.#publicPositions(sequence), this.#step)) return false;
    this.queue.follow(sequence);
    return true;
  }

  /** Leading positions whose blocks are the operator's: found by all tenants. */
  #publicPositions({ tokens, length, request: { cache } }: Sequence): number {
    return cache ? this.#blocks.publicPrefixes.leadingBlocks(tokens, length) * BLOCK_TOKENS : 0;
  }

  /** Where the tiers would find the sequence's blocks; null: nowhere. */
  #cachedPath(sequence: Sequence): CachedPath | null {
    const { cache } = sequence.request;
    if (!cache) return null;
    const publicBlocks = this.#publicPositions(sequence) / BLOCK_TOKENS;
    return {
      tokens: sequence.tokens,
      extra: cache.extra,
      scope: cache.scope,
      publicScope: publicBlocks > 0 ? PUBLIC_SCOPE : null,
      publicBlocks,
    };
  }

  #start(sequence: Sequence, loads: Sequence[]): boolean {
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
    if (sequence.cachedTokens === null) sequence.unpaid = sequence.promptLength;
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
      sequence.cachedTokens = positions;
      this.queue.chargeCached(sequence, positions - before);
    }
    sequence.unpaid = Math.min(sequence.unpaid, Math.max(0, sequence.promptLength - positions));
    this.queue.owe(sequence);
  }

  /** Whether blocks beyond those that the GPU has are to be brought from the tiers: only where that is quicker than computing them. */
  #load(sequence: Sequence): boolean {
    const path = this.#cachedPath(sequence);
    if (!this.#source || !path) return false;
    const from = Math.floor(sequence.computed / BLOCK_TOKENS);
    const { tiers, prefillTokensPerMs } = this.#source;
    // Also where nothing can be hit: the tiers keep blocks of namespaces that they have heard of.
    const { blocks, loadMs } = tiers.probe(path, from, sequence.maxCached);
    const spared = (from + blocks) * BLOCK_TOKENS - sequence.computed;
    const rate = prefillTokensPerMs();
    if (blocks === 0 || (rate > 0 && loadMs * rate >= spared)) return false;
    invariant((from + blocks) * BLOCK_TOKENS <= sequence.maxCached, 'tiers answer what was asked', { from, blocks });
    sequence.load = { path, from, count: Math.min(blocks, tiers.maxLoadBlocks), abort: new AbortController() };
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

  #divide(chunks: PlannedChunk[]): void {
    const prompts: Sequence[] = [];
    let tokens = this.#limits.maxStepTokens;
    let rows = this.#limits.maxStepLogits;
    let after = 0;
    for (const sequence of this.#running) if (sequence.state === 'running' && sequence.pending > 0) after += 1;
    const give = (sequence: Sequence): void => {
      // A prompt whose every position is scored leaves one row to each sequence after it.
      after -= 1;
      const { count, rows: wanted } = nextChunk(sequence, tokens, Math.max(0, rows - after));
      if (count === 0) return;
      const { run, scheduled: start, expectedLength } = sequence;
      const draws = start + count === expectedLength && wanted.at(-1) === count - 1 && sequence.request.maxTokens > 0;
      chunks.push({ sequence, run, start, count, rows: wanted, draws });
      sequence.scheduled += count;
      if (draws) sequence.drawn += 1;
      tokens -= count;
      rows -= wanted.length;
    };
    for (const sequence of this.#running) {
      if (sequence.state !== 'running') continue;
      const { pending } = sequence;
      if (pending === 1) give(sequence);
      else if (pending > 1) prompts.push(sequence);
    }
    if (prompts.length > 1) prompts.sort((a, b) => this.queue.compare(a, b, this.#limits.maxStepTokens));
    for (const sequence of prompts) give(sequence);
  }
}

function valid({ sequence, run }: PlannedChunk): boolean {
  return sequence.run === run && sequence.state === 'running';
}

function inStep(sequence: Sequence): boolean {
  return sequence.scheduled > sequence.computed;
}
