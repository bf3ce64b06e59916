// The engine: requests in, batches of outputs out, over any model runner. It owns the sequences and drives the steps. It knows no GPU
// and no network; the clock comes in. A request that goes wrong ends alone; when the runner itself fails, everything ends as
// `lost` and the owner is told, who decides on a restart.
//
//   host    plan N │ submit N │ prepare N+1: expire, admit, loads │     wait    │ take N: append, publish │ plan N+1 │ …
//   GPU            └──────────────── step N ─────────────────────────────────── ┘
//
// Where the runner takes two steps at a time, N+1 is planned and submitted under step N, on the assumption that what runs goes on, with
// tokens that only the device knows yet. What ended in N is dropped from N+1's results. Either way the same tokens come out:
//
//   host    … │ plan, submit N+1 │ wait │ take N │ plan, submit N+2 │ wait │ take N+1 │ …
//   GPU     ───── step N ────────────────┤───────── step N+1 ────────────────┤── step N+2 ──
import { setTimeout as sleep, setImmediate as yieldToEvents } from 'node:timers/promises';
import { checkConsistent, refuseImpossible } from './admissionChecks.ts';
import { advance, standing, stepChunk, tells } from './advance.ts';
import { type Attribution, attribute } from './attribution.ts';
import { joinListeners } from './blockListeners.ts';
import { BlockManager, type BlockStatus } from './blockManager.ts';
import { type DeviceShare, DeviceTurns, divideDeviceTime, type SequenceUse } from './deviceShare.ts';
import type { EvictionPolicy } from './eviction/policy.ts';
import { queueTokens, type TokenCosts } from './fairQueue.ts';
import { invariant } from './invariant.ts';
import type { ModelRunner, StepResult } from './modelRunner.ts';
import type { PublicPrefixes } from './publicPrefixes.ts';
import { DEFAULT_QUEUE_LIMITS, type QueueLimits, refuseOverload, retryAfterMs } from './queueBounds.ts';
import type { EngineStatus, Refusal, SequenceEnd, SequenceOutput, SequenceRequest } from './request.ts';
import { type PlannedChunk, type Preparation, Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import type { SpeculationOptions } from './speculation/drafter.ts';
import { Speculator } from './speculation/speculator.ts';
import { StepRates } from './stepRates.ts';
import { TierLoads } from './tierLoads.ts';
import type { BlockListener, KvTiers } from './tiers/port.ts';
import { WakeUp } from './wakeUp.ts';

export interface EngineLimits extends QueueLimits {
  /** Sequences computed at once; less when the runner's steps have less room. */
  maxRunning: number;
}

export const DEFAULT_MAX_RUNNING = 16;

/** With nothing to compute and blocks on their way, deadlines are looked at this often. */
const LOAD_POLL_MS = 10;
/** How often an engine that falls asleep looks whether it is done: nothing waits for it but its memory. */
const SETTLE_POLL_MS = 5;

/** What one step computed; all 0 when it only ended sequences. */
export interface StepReport extends DeviceShare {
  sequences: number;
  tokens: number;
  elapsedMs: number;
  /** Sequences that have ended since the last, if anything was computed for them. */
  ended: SequenceUse[];
}

export interface EngineOptions {
  runner: ModelRunner;
  /** Milliseconds, the scale of `deadlineMs`. */
  clock: () => number;
  limits?: Partial<EngineLimits>;
  /** Prefixes whose blocks all tenants share; what the operator declares later counts from then on. */
  publicPrefixes?: PublicPrefixes;
  /** Which cached block leaves when one is needed; by default the least recently used. */
  eviction?: EvictionPolicy;
  /** What service costs a tenant. */
  costs?: TokenCosts;
  /** Blocks outside the GPU, filled through the runner's transfer; absent: there are none. */
  tiers?: KvTiers;
  /** Drafts of output tokens, computed ahead and taken where the sampler draws them; absent: none. Changes no bit of what is answered. */
  speculation?: SpeculationOptions;
  /** The device's, where several engines have one. */
  turns?: DeviceTurns;
  /** Hears what enters and leaves the prefix index, as the tiers do. */
  listener?: BlockListener;
  /** One call per step, with what it did for each sequence that has news. */
  onOutputs: (outputs: SequenceOutput[], step: StepReport) => void;
  /** The runner failed; all sequences have ended, which is told next, and the engine takes no more. */
  onFatal: (error: unknown) => void;
}

/** A submitted step. */
interface Flight {
  chunks: readonly PlannedChunk[];
  result: Promise<StepResult>;
  submittedMs: number;
}

type EngineState = 'open' | 'asleep' | 'draining' | 'stopped' | 'failed';

export class Engine {
  readonly #options: EngineOptions;
  readonly #limits: EngineLimits;
  readonly #blocks: BlockManager;
  readonly #scheduler: Scheduler;
  readonly #rates = new StepRates();
  readonly #turns: DeviceTurns;
  readonly #speculator: Speculator | null;
  readonly #loads: TierLoads | null;
  readonly #wakeUp = new WakeUp();
  readonly #alive = new Map<string, Sequence>();
  /** Ends that no step has reported yet. */
  #unreported: SequenceOutput[] = [];
  /** Whose use no step has reported yet. */
  #ended: Sequence[] = [];
  /** Submitted, and not taken yet. */
  #flight: Flight | null = null;
  /** When the last result was taken. */
  #takenMs = Number.NEGATIVE_INFINITY;
  #state: EngineState = 'open';
  #stepping = false;
  #loop: Promise<void> | null = null;
  #arrivals = 0;
  #totals = { steps: 0, promptTokens: 0, cachedTokens: 0, outputTokens: 0, draftedTokens: 0, acceptedTokens: 0 };

  constructor(options: EngineOptions) {
    const { runner, tiers, costs, publicPrefixes, speculation } = options;
    this.#options = options;
    this.#turns = options.turns ?? new DeviceTurns();
    this.#limits = { ...DEFAULT_QUEUE_LIMITS, maxRunning: DEFAULT_MAX_RUNNING, ...options.limits };
    const listener = joinListeners([tiers, options.listener]);
    this.#blocks = new BlockManager(runner.capacityBlocks, options.eviction, {
      copyBlock: (from, to, tokens) => runner.copyBlock(from, to, tokens),
      clock: options.clock,
      ...(listener && { listener }),
      ...(publicPrefixes && { publicPrefixes }),
    });
    const limits = {
      maxRunning: Math.min(this.#limits.maxRunning, runner.slots),
      maxStepTokens: runner.maxStepTokens,
      maxStepLogits: runner.maxStepLogits,
    };
    this.#speculator = speculation ? new Speculator(speculation, limits) : null;
    this.#scheduler = new Scheduler(this.#blocks, limits, {
      ...(costs && { costs }),
      speculator: this.#speculator,
      source: tiers
        ? {
            tiers,
            prefillTokensPerMs: () => this.#rates.prefillTokensPerMs,
            publicSealKey: () => this.#blocks.publicPrefixes.sealKey,
          }
        : null,
    });
    this.#loads = tiers ? new TierLoads(tiers, () => this.#wakeUp.ring()) : null;
  }

  submit(request: SequenceRequest): Refusal | null {
    return this.submitAll([request]);
  }

  /**
   * Takes all choices of a request, or none. Throws InvariantViolation for what the caller must have checked: no tokens, ids outside
   * the vocabulary, an id that lives already, a weight ≤ 0, a seed out of range.
   */
  submitAll(requests: readonly SequenceRequest[]): Refusal | null {
    checkConsistent(requests, this.#options.runner.vocabSize, (id) => this.#alive.has(id));
    const refusal = this.#refuse(requests);
    if (refusal) return refusal;
    const sequences = requests.map((request) => new Sequence(request, this.#arrivals++));
    for (const sequence of sequences) {
      this.#alive.set(sequence.request.id, sequence);
      this.#scheduler.push(sequence);
    }
    this.#wakeUp.ring();
    return null;
  }

  /** Ends a sequence and frees its blocks at once; false when it has ended already. */
  cancel(id: string): boolean {
    const sequence = this.#alive.get(id);
    if (!sequence) return false;
    this.#scheduler.finish(sequence);
    this.#report(sequence, 'cancelled');
    return true;
  }

  /** Steps until stopped, drained or failed; sleeps while there is nothing to do. */
  run(): Promise<void> {
    invariant(!this.#loop, 'an engine runs once');
    this.#loop = this.#steps();
    return this.#loop;
  }

  async #steps(): Promise<void> {
    for (;;) {
      const busy = await this.step();
      if (this.#state === 'failed') return;
      if (busy) {
        // Requests and cancellations arrive as events: let them in between steps, however fast the runner is.
        await yieldToEvents();
        continue;
      }
      if (this.#state !== 'open' && this.#state !== 'asleep') return;
      await this.#wakeUp.wait();
    }
  }

  /** One step; false when there was nothing to do. `run` calls it; a simulation may call it by itself. */
  async step(): Promise<boolean> {
    invariant(!this.#stepping, 'one step at a time');
    if (this.#state === 'failed') return false;
    this.#stepping = true;
    try {
      const { clock } = this.#options;
      this.#flight ??= this.#launch(clock());
      const flight = this.#flight;
      if (!flight && this.#unreported.length === 0) return await this.#awaitLoads();
      const outputs = flight ? await this.#land(flight) : [];
      const nowMs = clock();
      const deviceMs = flight ? this.#turns.ended(flight.submittedMs, nowMs) : 0;
      const elapsedMs = flight ? nowMs - Math.max(flight.submittedMs, this.#takenMs) : 0;
      this.#takenMs = nowMs;
      const chunks = flight?.chunks ?? [];
      let tokens = 0;
      let decodes = 0;
      let rows = 0;
      for (const { count, draft, rows: wanted } of chunks) {
        tokens += count;
        rows += wanted.length;
        if (count - draft.length === 1) decodes += count;
      }
      this.#rates.step(tokens, decodes, elapsedMs);
      this.#speculator?.noteStep(tokens, rows, elapsedMs);
      outputs.push(...this.#unreported.splice(0));
      const share = divideDeviceTime(chunks, deviceMs);
      const ended = this.#takeEnded();
      this.#options.onOutputs(outputs, { sequences: chunks.length, tokens, elapsedMs, ...share, ended });
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    } finally {
      this.#stepping = false;
    }
  }

  /**
   * Takes no more requests, and when those taken have ended gives up all that the arena holds: cached blocks go to the tiers. Resolves when
   * the runner may give its memory back.
   */
  async sleep(): Promise<void> {
    invariant(this.#state === 'open', 'who falls asleep was awake', { state: this.#state });
    this.#state = 'asleep';
    await this.#settled();
    if (this.#state !== 'asleep') return; // stopped, or failed, meanwhile
    await this.#options.tiers?.flush();
    this.#blocks.evictAll();
  }

  /** Takes requests again, on an empty arena: after a sleep, or after the runner failed and was opened anew; then `run` may be called again. */
  wake(): 'slept' | 'failed' {
    const before = this.#state;
    invariant(before === 'asleep' || before === 'failed', 'who wakes slept, or failed', { state: before });
    if (before === 'failed') {
      this.#blocks.evictAll();
      this.#flight = null;
      this.#loop = null;
    }
    this.#state = 'open';
    return before === 'asleep' ? 'slept' : 'failed';
  }

  /** Takes no more requests; resolves when those taken have ended. */
  async drain(): Promise<void> {
    if (this.#state === 'open') this.#state = 'draining';
    await this.#idle();
  }

  /** Cancels everything; resolves when the loop has ended. */
  async stop(): Promise<void> {
    if (this.#state !== 'failed') this.#state = 'stopped';
    for (const id of [...this.#alive.keys()]) this.cancel(id);
    await this.#idle();
  }

  status(): EngineStatus {
    const { queue, running, preemptions } = this.#scheduler;
    return {
      running: running.length,
      waiting: queue.size,
      waitingTokens: queue.waitingTokens,
      blocksTotal: this.#blocks.capacityBlocks,
      blocksFree: this.#blocks.freeBlocks,
      blocksCached: this.#blocks.cachedBlocks,
      ...this.#totals,
      preemptions,
      evictions: this.#blocks.evictions,
      tiers: this.#options.tiers?.status() ?? null,
    };
  }

  /** Blocks by account and state, who evicted whom, how long blocks live: `most` accounts by name. */
  cacheStatus(most: number): BlockStatus {
    return this.#blocks.status(most);
  }

  /** Use by tenant: the `top` largest, and the rest in sum. */
  attribution(top?: number): Attribution {
    return attribute(this.#scheduler.queue, this.#scheduler.running, top);
  }

  /** For simulations: throws InvariantViolation when sequences, queue and blocks contradict one another. */
  checkInvariants(): void {
    const { running, queue } = this.#scheduler;
    const waiting = [...queue];
    this.#blocks.checkInvariants(running.map((sequence) => sequence.table!));
    this.#scheduler.checkInvariants();
    invariant(running.length + waiting.length === this.#alive.size, 'who lives runs or waits', {
      running: running.length,
      waiting: waiting.length,
      alive: this.#alive.size,
    });
    for (const { end, pending, scheduled, computed } of [...running, ...waiting])
      invariant(end === null && (pending > 0 || scheduled > computed), 'who lives has something to compute');
  }

  /** Plans and submits what is to be computed next; null: nothing is. */
  #launch(nowMs: number): Flight | null {
    this.#takeLoads();
    const plan = this.#scheduler.plan(nowMs);
    this.#begin(plan);
    const { chunks } = plan;
    if (chunks.length === 0) return null;
    const result = this.#options.runner.step(chunks.map(stepChunk));
    // Its failure is met where it is awaited; until then it must not count as met by nobody.
    result.catch(() => {});
    return { chunks, result, submittedMs: nowMs };
  }

  #begin({ expired, loads }: Preparation): void {
    for (const sequence of expired) this.#report(sequence, 'deadline');
    for (const sequence of loads) if (sequence.load) this.#loads?.start(sequence, sequence.load);
  }

  /** Puts what has come from the tiers into the arena, in front of the next step. */
  #takeLoads(): void {
    for (const { sequence, load, blocks } of this.#loads?.take() ?? []) {
      for (const [i, bytes] of blocks.entries())
        this.#options.runner.transfer.writeBlock(sequence.table!.blocks[load.from + i]!, bytes);
      if (this.#scheduler.loaded(sequence, blocks.length)) this.#loads!.start(sequence, sequence.load!);
    }
  }

  /** With nothing to compute: whether blocks are on their way. Waits for them, or for whatever else happens. */
  async #awaitLoads(): Promise<boolean> {
    if (this.#scheduler.loading === 0) return false;
    const poll = new AbortController();
    await Promise.race([this.#wakeUp.wait(), sleep(LOAD_POLL_MS, undefined, { signal: poll.signal }).catch(() => {})]);
    poll.abort();
    return true;
  }

  /** While the device computes, whatever needs none of its results; then takes these. */
  async #land(flight: Flight): Promise<SequenceOutput[]> {
    const { clock, runner } = this.#options;
    this.#flight = null;
    if (runner.stepsInFlight > 1) this.#flight = this.#launch(clock());
    else {
      this.#takeLoads();
      this.#begin(this.#scheduler.prepare(clock()));
    }
    return this.#take(flight.chunks, await flight.result);
  }

  /** A step's results. Chunks of sequences that ended or were preempted meanwhile are void. */
  #take(chunks: readonly PlannedChunk[], { answers }: StepResult): SequenceOutput[] {
    this.#totals.steps += 1;
    const outputs: SequenceOutput[] = [];
    let row = 0;
    for (const chunk of chunks) {
      const first = row;
      row += chunk.rows.length;
      invariant(answers.length >= row, 'the runner answers each wanted row', { row, answers: answers.length });
      if (!this.#scheduler.take(chunk)) continue;
      this.#countPrompt(chunk.sequence);
      const output = advance(chunk, answers.slice(first, row));
      this.#settle(chunk, output);
      if (tells(output)) outputs.push(output);
    }
    return outputs;
  }

  /** After a chunk: charges, publishes its blocks, and ends the sequence where that is due. */
  #settle(chunk: PlannedChunk, output: SequenceOutput): void {
    const { sequence } = chunk;
    const { ids, end, drafts } = output;
    this.#totals.outputTokens += ids.length;
    this.#totals.draftedTokens += chunk.draft.length;
    this.#totals.acceptedTokens += drafts?.accepted ?? 0;
    this.#scheduler.settle(chunk, ids.length, end !== 'failed');
    if (!end) return;
    this.#rates.ended(queueTokens(sequence), sequence.computedTokens);
    // What gave logits that are not finite must not be found in the cache by the next request.
    this.#scheduler.finish(sequence, (table) =>
      end === 'failed' ? this.#blocks.discard(table) : this.#blocks.release(table),
    );
    sequence.end = end;
    this.#alive.delete(sequence.request.id);
    this.#ended.push(sequence);
  }

  #takeEnded(): SequenceUse[] {
    return this.#ended.splice(0).map(({ use }) => use);
  }

  #countPrompt(sequence: Sequence): void {
    if (sequence.announced) return;
    this.#totals.promptTokens += sequence.promptLength;
    this.#totals.cachedTokens += sequence.cachedTokens ?? 0;
  }

  /** An end that no computed chunk tells. The sequence holds nothing any more. */
  #report(sequence: Sequence, end: SequenceEnd): void {
    sequence.end = end;
    this.#alive.delete(sequence.request.id);
    if (sequence.computedTokens > 0) this.#ended.push(sequence);
    this.#unreported.push({ ...standing(sequence), end });
    this.#wakeUp.ring();
  }

  #refuse(requests: readonly SequenceRequest[]): Refusal | null {
    if (this.#state !== 'open')
      return {
        code: 'overloaded',
        message: `The engine is ${this.#state} and takes no new requests. Retry: another pool, or this one after its restart, will.`,
        retryAfterMs: retryAfterMs(0, 0),
      };
    const { runner } = this.#options;
    const { queue } = this.#scheduler;
    return (
      refuseImpossible(requests, runner) ?? refuseOverload(requests, queue, this.#limits, this.#rates.drainTokensPerMs)
    );
  }

  /** Resolves once nothing lives, is computed, or is still to be told; the loop goes on. A cancelled sequence's step may be under way. */
  async #settled(): Promise<void> {
    if (!this.#loop) while (await this.step());
    while (this.#alive.size > 0 || this.#stepping || this.#flight || this.#unreported.length > 0)
      await sleep(SETTLE_POLL_MS);
  }

  /** Resolves once nothing lives and all ends are reported. Without a loop it does the steps itself. */
  async #idle(): Promise<void> {
    if (this.#loop) {
      this.#wakeUp.ring();
      await this.#loop;
    } else while (await this.step());
  }

  #fail(error: unknown): void {
    this.#state = 'failed';
    for (const sequence of [...this.#alive.values()]) {
      this.#scheduler.finish(sequence, (table) => this.#blocks.discard(table));
      this.#report(sequence, 'lost');
    }
    // The owner hears of it before those whose sequences end by it: whoever asks it again must not be sent here.
    this.#options.onFatal(error);
    try {
      this.#options.onOutputs(this.#unreported.splice(0), {
        ...{ sequences: 0, tokens: 0, elapsedMs: 0, prefillMs: 0, decodeMs: 0 },
        ended: this.#takeEnded(),
      });
    } catch {
      // What failed first is what the owner was told.
    }
  }
}
