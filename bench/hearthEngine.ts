// Hearth's engine on one file, as its own process: `node bench/hearthEngine.ts '{"model","dawnFlags","prompt","generate","rounds","activations"}'`.
// Prints one line of JSON in the form of bench/peers/llamaCpp.mjs. The same sequence of steps as the pool's: chunks of 64, greedy.

import { openDevice } from '../engine/gpu/device.ts';
import { invariant } from '../engine/invariant.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import { BLOCK_TOKENS, type RowWish } from '../engine/modelRunner.ts';

interface Task {
  model: string;
  dawnFlags: string[];
  prompt: number[];
  generate: number;
  rounds: number;
  activations: 'int8' | 'f32';
}

const task: Task = JSON.parse(process.argv[2] ?? '{}');
const gpu = await openDevice({ dawnFlags: task.dawnFlags });
const { file } = await openModelFile(task.model);
const kvBlocks = Math.ceil((task.prompt.length + task.generate + 1) / BLOCK_TOKENS);
const began = performance.now();
const runner = await createLlamaRunner({ gpu, file, activations: task.activations, kvBlocks, maxStepTokens: 64 });
const loadMs = performance.now() - began;
const blockTable = Int32Array.from({ length: kvBlocks }, (_, i) => i);

const DRAW: RowWish = {
  kind: 'draw',
  sampling: {
    ...{ temperature: 0, topP: 1, topK: 0, minP: 0, seed: '0' },
    ...{ frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1, logitBias: [] },
  },
  ...{ noise: [0, 0], adjustments: null, logprobs: null, slot: 0, pending: false },
};

/** Computes tokens from `start`; the most likely next one when `wanted`. */
async function advance(tokens: readonly number[], start: number, wanted: boolean): Promise<number> {
  let next = 0;
  for (let at = 0; at < tokens.length; at += 64) {
    const part = Int32Array.from(tokens.slice(at, at + 64));
    const last = wanted && at + part.length === tokens.length;
    const { answers } = await runner.step([
      {
        ...{ tokens: part, start: start + at, blockTable },
        ...(last ? { logitsFor: [part.length - 1], wishes: [DRAW] } : { logitsFor: [] }),
      },
    ]);
    if (!last) continue;
    const id = answers[0]?.id ?? null;
    invariant(id !== null, 'a step draws a token');
    next = id;
  }
  return next;
}

const results = [];
for (let round = 0; round <= task.rounds; round++) {
  const begin = performance.now();
  // As llama.cpp counts it: everything but the last token of the prompt, and no logits.
  await advance(task.prompt.slice(0, -1), 0, false);
  const prefilled = performance.now();
  let token = await advance(task.prompt.slice(-1), task.prompt.length - 1, true);
  const first = performance.now();
  for (let i = 0; i < task.generate; i++) token = await advance([token], task.prompt.length + i, true);
  const end = performance.now();
  if (round > 0)
    results.push({
      prefillTokensPerSecond: ((task.prompt.length - 1) / (prefilled - begin)) * 1000,
      timeToFirstTokenMs: first - begin,
      decodeTokensPerSecond: (task.generate / (end - first)) * 1000,
    });
}
process.stdout.write(`${JSON.stringify({ adapter: gpu.adapterName, loadMs, results })}\n`);
process.exit(0);
