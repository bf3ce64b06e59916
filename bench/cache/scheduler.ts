// What the scheduler costs per step on the host, without a GPU: plan and settle apart, with so many sequences running and so many waiting,
// over the real block manager and prefix index. Every step decodes all that runs, a few end and as many are admitted, some prompts
// share what another computes, and deadlines pass.
import { BlockManager } from '../../engine/blockManager.ts';
import { GREEDY, type SequenceRequest } from '../../engine/request.ts';
import { Scheduler } from '../../engine/scheduler.ts';
import { Sequence } from '../../engine/sequence.ts';
import type { Row } from '../report.ts';

export interface SchedulerLoad {
  running: number;
  waiting: number;
  tenants: number;
  /** Tokens; the outputs' in the mean. A third of the prompts begin with as many that they have in common with others of their tenant. */
  promptTokens: number;
  outputTokens: number;
}

export const ISSUE_LOAD: SchedulerLoad = {
  running: 64,
  waiting: 1000,
  tenants: 50,
  promptTokens: 512,
  outputTokens: 64,
};

const STEP_TOKENS = 2048;

function request(load: SchedulerLoad, arrival: number): SequenceRequest {
  const tenant = `t${arrival % load.tenants}`;
  const shares = arrival % 3 === 0;
  const promptIds = Int32Array.from({ length: load.promptTokens }, (_, i) =>
    shares && i < load.promptTokens / 2 ? (i * 7919 + (arrival % 50)) % 32_000 : (i * 104_729 + arrival * 31) % 32_000,
  );
  return {
    id: `s${arrival}`,
    choice: 0,
    tenant,
    weight: 1 + (arrival % 3),
    priority: arrival % 2,
    account: { name: tenant, weight: 1, floorShare: 0 },
    cache: { scope: { namespace: tenant, sealKey: null }, extra: '', retention: 50 },
    promptIds,
    // Of many lengths, so that they don't end together.
    maxTokens: 1 + ((arrival * 37) % (2 * load.outputTokens - 1)),
    sampling: GREEDY,
    eosIds: [],
    logprobs: null,
    promptLogprobs: null,
    // A few will not live to be served.
    deadlineMs: arrival % 20 === 0 ? arrival + 400 : 1e9 + arrival,
  };
}

export interface StepCosts {
  planUs: number[];
  settleUs: number[];
}

/** Microseconds of each of `steps` steps, after as many again to warm up and fill. */
export function measureScheduler(load: SchedulerLoad, steps: number): StepCosts {
  const blocks = new BlockManager(Math.ceil((load.running * (load.promptTokens + 2 * load.outputTokens) * 1.5) / 16));
  const scheduler = new Scheduler(blocks, {
    maxRunning: load.running,
    maxStepTokens: STEP_TOKENS,
    maxStepLogits: load.running,
  });
  const costs: StepCosts = { planUs: [], settleUs: [] };
  let arrival = 0;
  for (let step = 0; step < 2 * steps; step++) {
    while (scheduler.queue.size < load.waiting) {
      scheduler.push(new Sequence(request(load, arrival), arrival));
      arrival += 1;
    }
    const began = performance.now();
    const { chunks } = scheduler.plan(arrival - load.waiting);
    const planned = performance.now();
    for (const chunk of chunks) {
      const { sequence, draws } = chunk;
      if (!scheduler.take(chunk)) continue;
      if (draws) sequence.append((step * 31 + sequence.arrival) % 32_000);
      scheduler.settle(chunk, draws ? 1 : 0, true);
      if (sequence.outputLength === sequence.request.maxTokens) scheduler.finish(sequence);
    }
    const settled = performance.now();
    if (step < steps) continue;
    costs.planUs.push((planned - began) * 1000);
    costs.settleUs.push((settled - planned) * 1000);
  }
  return costs;
}

/** Mean and percentiles of plan, settle and both, by the wall clock: on a shared machine the tail is other processes'. */
export function schedulerRows(load: SchedulerLoad, steps: number): Row[] {
  const { planUs, settleUs } = measureScheduler(load, steps);
  const parts = [
    { name: 'scheduler_plan', values: planUs },
    { name: 'scheduler_settle', values: settleUs },
    { name: 'scheduler_step', values: planUs.map((value, i) => value + settleUs[i]!) },
  ];
  return parts.flatMap(({ name, values }) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;
    const figures = {
      mean: values.reduce((sum, value) => sum + value, 0) / values.length,
      p50: at(0.5),
      p90: at(0.9),
      p99: at(0.99),
    };
    return Object.entries(figures).map(([statistic, value]) => ({
      name,
      value,
      unit: 'µs',
      statistic,
      ...load,
      steps,
    }));
  });
}
