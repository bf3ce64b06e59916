// llama.cpp, `llama-server`. After tools/server/README.md and tools/server/server-{task,schema,common}.cpp of b11434. With `timings_per_token` each
// chunk tells its tokens so far and the prompt's, those from the cache apart; usage comes with the last. Slots keep prefixes of
// whoever used them, without salts: `cache_prompt` false does without, and it is, unless the operator shares them. Of several choices
// each tells a usage without saying whose it is, so one is served. Figures need --metrics.
import { type ChunkCounts, countIn, listIn, listLength, type Make, NAMED_ALIKE, recordIn } from '../make.ts';

function counts(chunk: Readonly<Record<string, unknown>>): ChunkCounts {
  const timings = recordIn(chunk.timings);
  const computed = countIn(timings.prompt_n);
  const cached = countIn(timings.cache_n);
  const total = countIn(timings.predicted_n);
  if (computed === undefined || cached === undefined || total === undefined) return {};
  return { prompt: computed + cached, cached, ...(listIn(chunk.choices).length === 1 && { total }) };
}

export const llamaCpp: Make = {
  title: 'llama.cpp',
  sampling: { ...NAMED_ALIKE, repetition_penalty: 'repeat_penalty' },
  // Its own values are a temperature of 0.8, 40 tokens, and more.
  sendsNeutral: true,
  allTopK: 0,
  seed: (seed) => seed % 2 ** 31,
  logitBias: true,
  choices: false,
  promptLists: false,
  promptIds: true,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true }, timings_per_token: true },
  priority: null,
  cache: { kind: 'switch', on: { cache_prompt: true }, off: { cache_prompt: false } },
  counter: {
    chat: null,
    render: (_, messages) => ({ path: '/apply-template', body: { messages } }),
    text: (_, content) => ({
      path: '/tokenize',
      body: { content, add_special: true, parse_special: true },
      tokens: listLength('tokens'),
    }),
  },
  tellsPrompt: true,
  counts,
  healthPath: '/health',
  figures: {
    path: '/metrics',
    running: 'llamacpp:requests_processing',
    waiting: 'llamacpp:requests_deferred',
    kvUse: null,
    blocks: null,
  },
  contextOf: (entry) => countIn(recordIn(entry.meta).n_ctx) ?? null,
  contextInfo: {
    path: '/props',
    of: (answer) => countIn(recordIn(recordIn(answer).default_generation_settings).n_ctx) ?? null,
  },
};
