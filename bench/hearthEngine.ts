// Hearth's engine on one file, as a contender (process.ts): `node bench/hearthEngine.ts '{"model","dawnFlags","activations","tuning"}'`. The same
// sequence of steps as the pool's: chunks of 64, greedy. A context is computed once and decoded from in every round.
import { createInterface } from 'node:readline';
import { openDevice } from '../engine/gpu/device.ts';
import { clockFor } from '../engine/gpu/deviceClock.ts';
import { invariant } from '../engine/invariant.ts';
import { createLlamaRunner, type RunnerOptions } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { BLOCK_TOKENS, type RowWish, type StepChunk, slotToken } from '../engine/modelRunner.ts';
import { GREEDY } from '../engine/request.ts';
import { median } from '../engine/tuning/fastest.ts';
import type { Figures, Task } from './bench.ts';
import { promptOf } from './prompt.ts';

interface Setup {
  model: string;
  dawnFlags: string[];
  activations: 'int8' | 'f32';
  tuning: NonNullable<RunnerOptions['tuning']> | null;
}

/** 4,096 positions, 16 streams of 512, and what shorter contexts take. */
const KV_BLOCKS = 1200;

const setup: Setup = JSON.parse(process.argv[2] ?? '{}');
const gpu = await openDevice({ dawnFlags: setup.dawnFlags });
const { file } = await openModelFile(setup.model);
const runner = await createLlamaRunner({
  ...{ gpu, file, activations: setup.activations, kvBlocks: KV_BLOCKS },
  ...(setup.tuning && { tuning: setup.tuning }),
});
const clock = clockFor(gpu.software);
let nextBlock = 0;

function blockTable(positions: number): Int32Array {
  const blocks = Math.ceil(positions / BLOCK_TOKENS);
  invariant(nextBlock + blocks <= KV_BLOCKS, 'the contexts of a run fit the arena', { nextBlock, blocks });
  nextBlock += blocks;
  return Int32Array.from({ length: blocks }, (_, i) => nextBlock - blocks + i);
}

const draw = (slot: number, pending = false): RowWish => ({
  ...{ kind: 'draw', sampling: GREEDY, noise: [0, 0], adjustments: null, logprobs: null, slot, pending },
});

async function prefill(tokens: readonly number[], table: Int32Array): Promise<void> {
  for (let start = 0; start < tokens.length; start += runner.maxStepTokens) {
    const part = Int32Array.from(tokens.slice(start, start + runner.maxStepTokens));
    await runner.step([{ tokens: part, start, blockTable: table, logitsFor: [] }]);
  }
}

/** The next token of each stream; `hostMs`: until the step was submitted, which waits for nothing. Counted by the wall: a thread's CPU time has ticks of 4 ms. */
async function step(tokens: readonly number[], start: number, tables: readonly Int32Array[]) {
  const chunks = tables.map(
    (table, i): StepChunk => ({
      ...{
        tokens: Int32Array.of(tokens[i]!),
        start,
        blockTable: table,
        logitsFor: [0],
        wishes: [draw(i, tokens[i]! < 0)],
      },
    }),
  );
  const began = performance.now();
  const result = runner.step(chunks);
  const hostMs = performance.now() - began;
  const { answers } = await result;
  const next = answers.map((answer) => {
    invariant(answer && answer.id !== null, 'a step draws a token for each stream');
    return answer.id;
  });
  return { next, hostMs };
}

const contexts = new Map<string, Int32Array[]>();

async function contextOf(context: number, generate: number, streams: number): Promise<Int32Array[]> {
  const key = `${context} ${generate} ${streams}`;
  let tables = contexts.get(key);
  if (tables) return tables;
  tables = Array.from({ length: streams }, () => blockTable(context + generate + 2));
  contexts.set(key, tables);
  for (const [i, table] of tables.entries()) await prefill(promptOf(context, i), table);
  return tables;
}

async function decode({ context, generate, streams }: Task & { kind: 'decode' }): Promise<Figures> {
  const tables = await contextOf(context, generate, streams);
  // One that isn't counted: what is lazy in a driver.
  let tokens = (await step(new Array(streams).fill(1), context, tables)).next;
  const host: number[] = [];
  const began = performance.now();
  const deviceSeconds = clock.start();
  // As the engine does: the next step is submitted before this one's token is known, where the adapter takes two.
  let last: ReturnType<typeof step> | null = null;
  for (let i = 1; i <= generate; i++) {
    const running: ReturnType<typeof step> = step(
      last ? tables.map((_, slot) => slotToken(slot)) : tokens,
      context + i,
      tables,
    );
    const done = runner.stepsInFlight > 1 ? last : running;
    last = running;
    if (!done) continue;
    const { next, hostMs } = await done;
    host.push(hostMs);
    tokens = next;
    if (runner.stepsInFlight === 1) last = null;
  }
  if (last) await last;
  const ms = performance.now() - began;
  const deviceMs = (deviceSeconds() * 1000) / generate;
  return { tokensPerSecond: (streams * generate * 1000) / ms, deviceMs, hostMs: median(host) };
}

let prompts: Int32Array | null = null;

/** As llama.cpp counts it: everything but the last token of the prompt, and no logits. */
async function prompt({ tokens }: Task & { kind: 'prefill' }): Promise<Figures> {
  prompts ??= blockTable(tokens);
  const ids = promptOf(tokens, 0);
  const began = performance.now();
  await prefill(ids.slice(0, -1), prompts);
  const prefilled = performance.now();
  await step(ids.slice(-1), tokens - 1, [prompts]);
  return {
    tokensPerSecond: ((tokens - 1) * 1000) / (prefilled - began),
    firstTokenMs: performance.now() - began,
  };
}

const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
say({ adapter: gpu.adapterName });
for await (const line of createInterface({ input: process.stdin })) {
  const task: Task = JSON.parse(line);
  say(task.kind === 'decode' ? await decode(task) : await prompt(task));
}
process.exit(0);
