// Any other server that speaks OpenAI's own API and no more: llama-cpp-python, `transformers serve`. After OpenAI's reference of
// chat completions and completions: usage comes with the last chunk (`stream_options.include_usage`), and is an estimate of what came
// before where that chunk doesn't come. What OpenAI has no name for is refused; caches are the server's own affair.
import { type Make, NAMED_ALIKE } from '../make.ts';

export const openai: Make = {
  title: 'OpenAI-compatible',
  sampling: { ...NAMED_ALIKE, top_k: null, min_p: null, repetition_penalty: null },
  sendsNeutral: true,
  allTopK: 0,
  seed: (seed) => seed % 2 ** 31,
  logitBias: true,
  choices: false,
  promptLists: false,
  promptIds: false,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true } },
  priority: null,
  cache: { kind: 'none' },
  counter: { chat: null, render: null, text: null },
  tellsPrompt: false,
  counts: () => ({}),
  healthPath: '/v1/models',
  figures: null,
  contextOf: () => null,
  contextInfo: null,
};
