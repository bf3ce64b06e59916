// Makes tokenizer.json, the golden table of the tokeniser, with llama.cpp (vocabulary only): an implementation that shares no line with
// ours. Run in a folder of its own where `npm install node-llama-cpp` has been done:
//   cp <repository>/test/golden/{makeTokenizer,tokenizerTexts}.mjs . && node makeTokenizer.mjs MODEL.gguf > tokenizer.json
import { getLlama } from 'node-llama-cpp';
import { loneSurrogates, lossy, texts } from './tokenizerTexts.mjs';

const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' });
const model = await llama.loadModel({ modelPath: process.argv[2], vocabOnly: true });
const ids = (text, special) => (text === '' ? [] : [...model.tokenize(text, special)]);

const entries = [];
for (const text of [...texts, ...loneSurrogates, ...lossy]) {
  const wellFormed = text.toWellFormed();
  const plain = ids(wellFormed, false);
  const raw = ids(wellFormed, true);
  entries.push({
    text,
    plain,
    ...(raw.join() !== plain.join() && { raw }),
    ...(lossy.includes(text) && { lossy: true }),
  });
}
const header = { madeWith: `llama.cpp ${llama.llamaCppRelease.release}`, model: 'SmolLM2-135M-Instruct Q4_1' };
process.stdout.write(`${JSON.stringify(header).slice(0, -1)},"entries":[\n`);
process.stdout.write(`${entries.map((entry) => JSON.stringify(entry)).join(',\n')}\n]}\n`);
