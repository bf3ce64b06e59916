// One process of the step bench, in the environment of its adapter: `node bench/step/measure.ts '{"model","dawnFlags","activations","rounds","quick","tuning"}'`.
// Prints one line of JSON.
import { openDevice } from '../../engine/gpu/device.ts';
import { createLlamaRunner, type RunnerOptions } from '../../engine/llama/runner.ts';
import { openModelFile } from '../../engine/model/modelFile.ts';
import { BLOCK_TOKENS, type RowWish, type StepChunk } from '../../engine/modelRunner.ts';
import { GREEDY } from '../../engine/request.ts';
import { median } from '../../engine/tuning/fastest.ts';
import { promptOf } from '../prompt.ts';
import { TimedDevice } from './timedDevice.ts';

interface Task {
  model: string;
  dawnFlags: string[];
  activations: 'int8' | 'f32';
  rounds: number;
  quick: boolean;
  tuning: NonNullable<RunnerOptions['tuning']>;
}

/** A step: rows of so many sequences after a context. */
interface StepCase {
  name: string;
  sequences: number;
  rows: number;
  context: number;
}

export interface MeasuredStep {
  name: string;
  /** From submission to the answer, without timestamps. */
  wallSeconds: number;
  /** On the GPU, by kernel. */
  kernels: { label: string; dispatches: number; seconds: number }[];
}

const task: Task = JSON.parse(process.argv[2] ?? '{}');
const STEP_TOKENS = 64;
/** What a GPU is asked for besides. */
const LARGE_STEP_TOKENS = 256;
const CASES: StepCase[] = [
  { name: 'decode, 1 stream at 256', sequences: 1, rows: 1, context: 256 },
  { name: 'decode, 1 stream at 4,096', sequences: 1, rows: 1, context: 4096 },
  { name: 'decode, 16 streams at 256', sequences: 16, rows: 1, context: 256 },
  { name: 'prompt of 64 tokens at 256', sequences: 1, rows: STEP_TOKENS, context: 256 },
];
const LARGE: StepCase = { name: 'prompt of 256 tokens at 256', sequences: 1, rows: LARGE_STEP_TOKENS, context: 256 };

const gpu = await openDevice({ dawnFlags: task.dawnFlags, timestamps: true });
const cases = task.quick ? CASES.slice(0, 1) : gpu.software ? CASES : [...CASES, LARGE];
const kvBlocks = Math.max(
  ...cases.map(({ sequences, rows, context }) => sequences * Math.ceil((context + rows) / BLOCK_TOKENS)),
);
const { file } = await openModelFile(task.model);
const { activations, tuning } = task;
const options: RunnerOptions = {
  gpu,
  file,
  activations,
  tuning,
  kvBlocks,
  maxStepTokens: gpu.software ? STEP_TOKENS : LARGE_STEP_TOKENS,
};
const runner = await createLlamaRunner(options);

const draw = (slot: number): RowWish => ({
  ...{ kind: 'draw', sampling: GREEDY, noise: [0, 0], adjustments: null, logprobs: null, slot, pending: false },
});

/** Every block of a context is one that was written: what stands in it doesn't change how long it takes. */
async function step({ sequences, rows, context }: StepCase): Promise<void> {
  const blocks = Math.ceil((context + rows) / BLOCK_TOKENS);
  const chunks = Array.from({ length: sequences }, (_, i): StepChunk => {
    const blockTable = Int32Array.from({ length: blocks }, (_, block) => i * blocks + block);
    const tokens = Int32Array.from(promptOf(rows, i));
    return { tokens, start: context, blockTable, logitsFor: [rows - 1], wishes: [draw(i)] };
  });
  await runner.step(chunks);
}

const steps: MeasuredStep[] = [];
for (const each of cases) {
  const wall: number[] = [];
  for (let round = -2; round < 4 * task.rounds; round++) {
    const began = performance.now();
    await step(each);
    if (round >= 0) wall.push((performance.now() - began) / 1000);
  }
  steps.push({ name: each.name, wallSeconds: median(wall), kernels: [] });
}
const timed = new TimedDevice(gpu.device);
for (const [index, each] of cases.entries()) {
  const seconds = new Map<string, number[]>();
  const count = new Map<string, number>();
  for (let round = -1; round < task.rounds; round++) {
    await step(each);
    const sums = new Map<string, number>();
    count.clear();
    for (const { label, seconds: own } of await timed.read()) {
      sums.set(label, (sums.get(label) ?? 0) + own);
      count.set(label, (count.get(label) ?? 0) + 1);
    }
    if (round >= 0) for (const [label, sum] of sums) seconds.set(label, [...(seconds.get(label) ?? []), sum]);
  }
  steps[index]!.kernels = [...seconds].map(([label, sums]) => ({
    ...{ label, dispatches: count.get(label) ?? 0, seconds: median(sums) },
  }));
}
process.stdout.write(`${JSON.stringify({ adapter: gpu.adapterName, steps })}\n`);
process.exit(0);
