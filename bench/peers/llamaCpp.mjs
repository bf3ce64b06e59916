// llama.cpp on the same file, as a contender of bench/run.ts: `node llamaCpp.mjs '{"model","gpu","contextSize"}'`, a task a line on stdin. The prompt's
// ids are those of bench/prompt.ts; a context is computed once and decoded from in every round.
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { promptOf } from '../prompt.ts';

const { model: modelPath, gpu, contextSize } = JSON.parse(process.argv[2]);
const llama = await getLlama({ gpu: gpu ?? false, build: 'never', logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, gpuLayers: gpu ? 'max' : 0 });
// Left to choose its threads, it took three seconds a token on two shared cores; with as many as there are cores, 15 ms.
const context = await model.createContext({ contextSize, sequences: 1, threads: availableParallelism() });
const sequence = context.getSequence();
/** Tokens of the context that the sequence stands on; 0: none. */
let held = 0;

/** Times between tokens, the first one apart. */
async function generate(last, count) {
  const began = performance.now();
  let first = 0;
  let tokens = 0;
  for await (const _ of sequence.evaluate([last], { temperature: 0, yieldEogToken: true })) {
    tokens++;
    if (tokens === 1) first = performance.now();
    if (tokens > count) break;
  }
  return { firstMs: first - began, tokensPerSecond: ((tokens - 1) * 1000) / (performance.now() - first) };
}

async function decode({ context: length, generate: count }) {
  const prompt = promptOf(length, 0);
  if (held === length) await sequence.eraseContextTokenRanges([{ start: length, end: sequence.nextTokenIndex }]);
  else {
    await sequence.clearHistory();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt);
    held = length;
  }
  const { tokensPerSecond } = await generate(1, count);
  return { tokensPerSecond };
}

async function prefill({ tokens }) {
  const prompt = promptOf(tokens, 0);
  held = 0;
  await sequence.clearHistory();
  const began = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1));
  const prefilled = performance.now();
  const { firstMs } = await generate(prompt.at(-1), 1);
  return { tokensPerSecond: ((tokens - 1) * 1000) / (prefilled - began), firstTokenMs: prefilled - began + firstMs };
}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ version: llama.llamaCppRelease.release, devices: (await llama.getGpuDeviceNames()).join(', ') });
// The first of anything compiles shaders: not counted.
await decode({ context: 16, generate: 1 });
for await (const line of createInterface({ input: process.stdin })) {
  const task = JSON.parse(line);
  say(task.kind === 'decode' ? await decode(task) : await prefill(task));
}
process.exit(0);
