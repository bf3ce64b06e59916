// The engine: requests in, batches of outputs out, over any model runner. It owns the sequences and drives plan → compute → advance →
// publish, one step at a time. It knows no GPU and no network; the clock comes in. A request that goes wrong ends alone; when
// the runner itself fails, everything ends as `failed` and the owner is told, who decides on a restart.
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { advance, standing, tells } from './advance.ts';
import { BlockManager, blocksFor } from './blockManager.ts';
import { invariant } from './invariant.ts';
import type { ModelRunner } from './modelRunner.ts';
import { DEFAULT_QUEUE_LIMITS, type QueueLimits, refuseOverload, retryAfterMs } from './queueBounds.ts';
import type { EngineStatus, Refusal, SequenceEnd, SequenceOutput, SequenceRequest } from './request.ts';
import { Sampler } from './sampler.ts';
import { type PlannedChunk, Scheduler } from './scheduler.ts';
import { mostPositions, Sequence } from './sequence.ts';

export interface EngineLimits extends QueueLimits {
  /** Sequences computed at once; less when the runner's steps have less room. */
  maxRunning: number;
}

export const DEFAULT_MAX_RUNNING = 16;

/** Weight of the last step in the moving average of the speed. */
const SPEED_SMOOTHING = 0.2;

/** What one step computed; all 0 when it only ended sequences. */
export interface StepReport {
  sequences: number;
  tokens: number;
  elapsedMs: number;
}

export interface EngineOptions {
  runner: ModelRunner;
  /** Milliseconds, the scale of `deadlineMs`. */
  clock: () => number;
  limits?: Partial<EngineLimits>;
  /** One call per step, with what it did for each sequence that has news. */
  onOutputs: (outputs: SequenceOutput[], step: StepReport) => void;
  /** The runner failed; all sequences have ended and the engine takes no more. */
  onFatal: (error: unknown) => void;
}

type EngineState = 'open' | 'draining' | 'stopped' | 'failed';

export class Engine {
  readonly #options: EngineOptions;
  readonly #limits: EngineLimits;
  readonly #blocks: BlockManager;
  readonly #scheduler: Scheduler;
  readonly #sampler: Sampler;
  readonly #alive = new Map<string, Sequence>();
  /** Ends that no step has reported yet. */
  #unreported: SequenceOutput[] = [];
  #state: EngineState = 'open';
  #stepping = false;
  #wake: () => void = () => {};
  #loop: Promise<void> | null = null;
  #arrivals = 0;
  #tokensPerMs = 0;
  #totals = { steps: 0, promptTokens: 0, cachedTokens: 0, outputTokens: 0 };

  constructor(options: EngineOptions) {
    const { runner } = options;
    this.#options = options;
    this.#limits = { ...DEFAULT_QUEUE_LIMITS, maxRunning: DEFAULT_MAX_RUNNING, ...options.limits };
    this.#blocks = new BlockManager(runner.capacityBlocks, undefined, {
      copyBlock: (from, to, tokens) => runner.copyBlock(from, to, tokens),
      clock: options.clock,
    });
    this.#scheduler = new Scheduler(this.#blocks, {
      maxRunning: this.#limits.maxRunning,
      maxStepTokens: runner.maxStepTokens,
      maxStepLogits: runner.maxStepLogits,
    });
    this.#sampler = new Sampler(runner.vocabSize);
  }

  submit(request: SequenceRequest): Refusal | null {
    return this.submitAll([request]);
  }

  /**
   * Takes all choices of a request, or none. Throws InvariantViolation for what the caller must have checked: no tokens, ids outside
   * the vocabulary, an id that lives already, a weight ≤ 0, a seed out of range.
   */
  submitAll(requests: readonly SequenceRequest[]): Refusal | null {
    this.#check(requests);
    const refusal = this.#refuse(requests);
    if (refusal) return refusal;
    const sequences = requests.map((request) => new Sequence(request, this.#arrivals++));
    for (const sequence of sequences) {
      this.#alive.set(sequence.request.id, sequence);
      this.#scheduler.queue.push(sequence);
    }
    this.#wake();
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
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const busy = await this.step();
      if (this.#state === 'failed') return;
      if (busy) {
        // Requests and cancellations arrive as events: let them in between steps, however fast the runner is.
        await yieldToEvents();
        continue;
      }
      if (this.#state !== 'open') return;
      await woken;
    }
  }

  /** One step; false when there was nothing to do. `run` calls it; a simulation may call it by itself. */
  async step(): Promise<boolean> {
    invariant(!this.#stepping, 'one step at a time');
    if (this.#state === 'failed') return false;
    this.#stepping = true;
    try {
      const { clock } = this.#options;
      const startMs = clock();
      const { chunks, expired } = this.#scheduler.plan(startMs);
      for (const sequence of expired) this.#report(sequence, 'deadline');
      const outputs = chunks.length > 0 ? await this.#compute(chunks) : [];
      const elapsedMs = chunks.length > 0 ? clock() - startMs : 0;
      const tokens = chunks.reduce((sum, { count }) => sum + count, 0);
      this.#measure(tokens, elapsedMs);
      outputs.push(...this.#unreported.splice(0));
      if (chunks.length === 0 && outputs.length === 0) return false;
      this.#options.onOutputs(outputs, { sequences: chunks.length, tokens, elapsedMs });
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    } finally {
      this.#stepping = false;
    }
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
    };
  }

  /** For simulations: throws InvariantViolation when sequences, queue and blocks contradict one another. */
  checkInvariants(): void {
    const { running, queue } = this.#scheduler;
    const waiting = [...queue];
    this.#blocks.checkInvariants(running.map((sequence) => sequence.table!));
    invariant(running.length + waiting.length === this.#alive.size, 'who lives runs or waits', {
      running: running.length,
      waiting: waiting.length,
      alive: this.#alive.size,
    });
    for (const sequence of [...running, ...waiting])
      invariant(sequence.end === null && sequence.pending > 0, 'who runs or waits has something to compute');
    for (const sequence of waiting)
      invariant(sequence.table === null && sequence.computed === 0, 'who waits holds nothing');
  }

  async #compute(chunks: readonly PlannedChunk[]): Promise<SequenceOutput[]> {
    for (const { sequence } of chunks) this.#countPrompt(sequence);
    const { logits } = await this.#options.runner.step(
      chunks.map(({ sequence, count, rows }) => ({
        tokens: sequence.tokens.subarray(sequence.computed, sequence.computed + count),
        start: sequence.computed,
        blockTable: sequence.table!.view(),
        logitsFor: rows,
      })),
    );
    const { vocabSize } = this.#options.runner;
    const wanted = chunks.reduce((sum, { rows }) => sum + rows.length, 0);
    invariant(logits.length >= wanted * vocabSize, 'the runner answers each wanted row', { wanted });
    this.#totals.steps += 1;
    const outputs: SequenceOutput[] = [];
    let row = 0;
    for (const chunk of chunks) {
      const first = row;
      row += chunk.rows.length;
      if (chunk.sequence.end) continue;
      const rows = chunk.rows.map((_, i) => logits.subarray((first + i) * vocabSize, (first + i + 1) * vocabSize));
      const output = advance(chunk, rows, this.#sampler);
      this.#settle(chunk, output);
      if (tells(output)) outputs.push(output);
    }
    return outputs;
  }

  /** After a chunk: charges, publishes its blocks, and ends the sequence where that is due. */
  #settle({ sequence, count }: PlannedChunk, output: SequenceOutput): void {
    const { ids, end } = output;
    this.#totals.outputTokens += ids.length;
    this.#scheduler.queue.charge(sequence, count, ids.length);
    invariant(sequence.table, 'a computed sequence holds blocks');
    if (end !== 'failed') this.#blocks.publish(sequence.table, sequence.tokens, sequence.computed);
    if (!end) return;
    // What gave logits that are not finite must not be found in the cache by the next request.
    this.#scheduler.finish(sequence, (table) =>
      end === 'failed' ? this.#blocks.discard(table) : this.#blocks.release(table),
    );
    sequence.end = end;
    this.#alive.delete(sequence.request.id);
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
    this.#unreported.push({ ...standing(sequence), end });
    this.#wake();
  }

  #check(requests: readonly SequenceRequest[]): void {
    invariant(requests.length > 0, 'a request has a choice');
    const ids = new Set<string>();
    for (const { id, tenant, weight, promptIds, maxTokens } of requests) {
      invariant(!ids.has(id) && !this.#alive.has(id), 'a sequence id is unique while it lives', { id });
      invariant(tenant === requests[0]!.tenant, 'the choices of a request are one tenant’s', { id });
      invariant(weight > 0 && Number.isFinite(weight), 'a weight is positive', { weight });
      invariant(promptIds.length > 0 && maxTokens >= 0, 'a prompt has a token', { id, maxTokens });
      const { vocabSize } = this.#options.runner;
      for (const token of promptIds)
        invariant(token >= 0 && token < vocabSize, 'a token is of the vocabulary', { token });
      ids.add(id);
    }
  }

  #refuse(requests: readonly SequenceRequest[]): Refusal | null {
    if (this.#state !== 'open')
      return {
        code: 'overloaded',
        message: `The engine is ${this.#state} and takes no new requests. Retry: another pool, or this one after its restart, will.`,
        retryAfterMs: retryAfterMs(0, 0),
      };
    const { contextLength, capacityBlocks } = this.#options.runner;
    for (const request of requests) {
      const prompt = request.promptIds.length;
      const need = `${prompt} prompt tokens and max_tokens ${request.maxTokens}`;
      if (prompt + request.maxTokens > contextLength)
        return {
          code: 'context_length_exceeded',
          message: `${need} exceed the context length of ${contextLength}. Shorten the prompt or lower max_tokens.`,
        };
      if (blocksFor(mostPositions(request)) > capacityBlocks)
        return {
          code: 'context_length_exceeded',
          message: `${need} need ${blocksFor(mostPositions(request))} KV blocks of the ${capacityBlocks} that this pool has. Shorten the prompt or lower max_tokens.`,
        };
    }
    return refuseOverload(requests, this.#scheduler.queue, this.#limits, this.#tokensPerMs);
  }

  #measure(tokens: number, elapsedMs: number): void {
    if (tokens === 0 || elapsedMs <= 0) return;
    const speed = tokens / elapsedMs;
    this.#tokensPerMs =
      this.#tokensPerMs === 0 ? speed : this.#tokensPerMs + SPEED_SMOOTHING * (speed - this.#tokensPerMs);
  }

  /** Resolves once nothing lives and all ends are reported. Without a loop it does the steps itself. */
  async #idle(): Promise<void> {
    if (this.#loop) {
      this.#wake();
      await this.#loop;
    } else while (await this.step());
  }

  #fail(error: unknown): void {
    this.#state = 'failed';
    for (const sequence of [...this.#alive.values()]) {
      this.#scheduler.finish(sequence, (table) => this.#blocks.discard(table));
      this.#report(sequence, 'failed');
    }
    try {
      this.#options.onOutputs(this.#unreported.splice(0), { sequences: 0, tokens: 0, elapsedMs: 0 });
    } catch {
      // What failed first is what the owner is told, below.
    }
    this.#options.onFatal(error);
  }
}
