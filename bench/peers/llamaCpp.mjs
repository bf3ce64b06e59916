// llama.cpp on the same file, as its own process: `node llamaCpp.mjs '{"model","gpu","prompt":[ids],"generate","rounds"}'`. Prints one line of JSON:
// per round the seconds to process the prompt, to the first token, and per generated token.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const { model: modelPath, gpu, prompt, generate, rounds } = JSON.parse(process.argv[2]);
const llama = await getLlama({ gpu: gpu ?? false, build: 'never', logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath, gpuLayers: gpu ? 'max' : 0 });
const context = await model.createContext({ contextSize: prompt.length + generate + 16, sequences: 1 });
const results = [];
for (let round = 0; round <= rounds; round++) {
  const sequence = context.getSequence();
  await sequence.clearHistory();
  const begin = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1));
  const prefilled = performance.now();
  let first = 0;
  let count = 0;
  for await (const _ of sequence.evaluate(prompt.slice(-1), { temperature: 0, yieldEogToken: true })) {
    count++;
    if (count === 1) first = performance.now();
    if (count > generate) break;
  }
  const end = performance.now();
  // The first round compiles shaders and is not counted.
  if (round > 0)
    results.push({
      prefillTokensPerSecond: ((prompt.length - 1) / (prefilled - begin)) * 1000,
      timeToFirstTokenMs: first - begin,
      decodeTokensPerSecond: ((count - 1) / (end - first)) * 1000,
    });
  sequence.dispose();
}
process.stdout.write(
  `${JSON.stringify({ version: llama.llamaCppRelease.release, gpu: llama.gpu, devices: await llama.getGpuDeviceNames(), results })}\n`,
);
process.exit(0);
