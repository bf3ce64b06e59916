// Drives an Engine step by step over a PagedRunner with a hand-moved clock, and gathers what each sequence was told.
import { Engine, type EngineLimits, type EngineOptions, type StepReport } from '../../engine/engine.ts';
import {
  GREEDY,
  NEUTRAL_RETENTION,
  type PositionLogprob,
  type RequestCache,
  type SequenceEnd,
  type SequenceOutput,
  type SequenceRequest,
} from '../../engine/request.ts';
import { PagedRunner, type PagedRunnerOptions } from './pagedRunner.ts';

export { GREEDY };

/** The cache of one namespace that stays in this process. */
export function cacheOf(namespace: string, over: Partial<RequestCache> = {}): RequestCache {
  return {
    scope: { namespace, sealKey: null },
    extra: '',
    retention: NEUTRAL_RETENTION,
    ...over,
  };
}

/** A request with nothing special: greedy, 4 tokens, tenant `a`, its own cache scope. */
export function request(
  id: string,
  promptIds: readonly number[],
  over: Partial<SequenceRequest> = {},
): SequenceRequest {
  return {
    id,
    choice: 0,
    tenant: 'a',
    weight: 1,
    priority: 0,
    account: { name: over.tenant ?? 'a', weight: over.weight ?? 1, floorShare: 0 },
    cache: cacheOf('scope-a'),
    promptIds: Int32Array.from(promptIds),
    maxTokens: 4,
    sampling: GREEDY,
    eosIds: [],
    logprobs: null,
    promptLogprobs: null,
    deadlineMs: Number.POSITIVE_INFINITY,
    ...over,
  };
}

/** All that a sequence was told. */
export interface Told {
  /** Output position of the first id. */
  from: number;
  ids: number[];
  logprobs: PositionLogprob[];
  promptLogprobs: PositionLogprob[];
  cachedTokens: number | null;
  drafts: { accepted: number; rejected: number };
  end: SequenceEnd | null;
}

export class EngineHarness {
  readonly runner: PagedRunner;
  readonly engine: Engine;
  readonly told = new Map<string, Told>();
  /** The batch of each step. */
  readonly batches: SequenceOutput[][] = [];
  readonly reports: StepReport[] = [];
  fatal: unknown = null;
  nowMs = 0;

  constructor(
    options: PagedRunnerOptions = {},
    limits: Partial<EngineLimits> = {},
    more: (
      runner: PagedRunner,
    ) => Pick<
      EngineOptions,
      'costs' | 'tiers' | 'publicPrefixes' | 'eviction' | 'listener' | 'speculation'
    > = () => ({}),
  ) {
    this.runner = new PagedRunner(options);
    this.engine = new Engine({
      runner: this.runner,
      clock: () => this.nowMs,
      limits,
      ...more(this.runner),
      onOutputs: (outputs, report) => {
        this.batches.push(outputs);
        this.reports.push(report);
        for (const output of outputs) this.#gather(output);
      },
      onFatal: (error) => {
        this.fatal = error;
      },
    });
  }

  /** Steps until nothing is left to do. */
  async finish(maxSteps = 100_000): Promise<void> {
    for (let i = 0; await this.engine.step(); i++) {
      if (i > maxSteps) throw new Error(`not finished after ${maxSteps} steps`);
      this.nowMs += 1;
    }
    if (this.fatal) throw this.fatal;
  }

  of(id: string): Told {
    const told = this.told.get(id);
    if (!told) throw new Error(`nothing was told of ${id}`);
    return told;
  }

  #gather(output: SequenceOutput): void {
    let told = this.told.get(output.id);
    if (!told) {
      told = {
        from: output.position,
        ids: [],
        logprobs: [],
        promptLogprobs: [],
        cachedTokens: null,
        drafts: { accepted: 0, rejected: 0 },
        end: null,
      };
      this.told.set(output.id, told);
    }
    if (told.end) throw new Error(`${output.id} was told something after its end`);
    if (output.position !== told.from + told.ids.length)
      throw new Error(`${output.id}: position ${output.position} out of turn`);
    told.ids.push(...output.ids);
    told.logprobs.push(...(output.logprobs ?? []));
    told.promptLogprobs.push(...(output.promptLogprobs ?? []));
    if (output.cachedTokens !== undefined) {
      if (told.cachedTokens !== null) throw new Error(`${output.id}: cachedTokens told twice`);
      told.cachedTokens = output.cachedTokens;
    }
    told.drafts.accepted += output.drafts?.accepted ?? 0;
    told.drafts.rejected += output.drafts?.rejected ?? 0;
    told.end = output.end ?? null;
  }
}

/** What the request is told when it is alone, with room for everything and nothing in the cache. */
export async function solo(asked: SequenceRequest, model: Pick<PagedRunnerOptions, 'follows'> = {}): Promise<Told> {
  const harness = new EngineHarness({ capacityBlocks: 256, maxStepTokens: 1024, maxStepLogits: 1024, ...model });
  harness.engine.submit({ ...asked, deadlineMs: Number.POSITIVE_INFINITY });
  await harness.finish();
  return harness.of(asked.id);
}
