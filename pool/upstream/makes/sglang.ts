// SGLang, `python -m sglang.launch_server`. After python/sglang/srt/entrypoints/openai/{protocol,serving_chat,serving_completions}.py of its main
// branch of 2026 and docs/advanced_features/server_arguments.md. Each chunk tells its choice's tokens so far (`continuous_usage_stats`);
// cached tokens come with --enable-cache-report, figures with --enable-metrics, priority with --enable-priority-scheduling. It has no
// documented route that counts a chat, so that one token is generated to be told.
import { continuousUsage, countIn, type Make, NAMED_ALIKE, recordIn } from '../make.ts';

export const sglang: Make = {
  title: 'SGLang',
  sampling: NAMED_ALIKE,
  // What a chat leaves out comes from the model's generation_config.json.
  sendsNeutral: true,
  allTopK: -1,
  seed: (seed) => seed,
  logitBias: true,
  choices: true,
  promptLists: true,
  promptIds: true,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true, continuous_usage_stats: true } },
  priority: (priority) => ({ priority }),
  cache: { kind: 'salt', field: { chat: 'cache_salt', completion: 'cache_salt' } },
  counter: {
    chat: null,
    render: null,
    text: (model, prompt) => ({
      path: '/tokenize',
      body: { model, prompt },
      tokens: (answer) => countIn(recordIn(answer).count) ?? null,
    }),
  },
  tellsPrompt: true,
  counts: continuousUsage,
  healthPath: '/health',
  figures: {
    path: '/metrics',
    running: 'sglang:num_running_reqs',
    waiting: 'sglang:num_queue_reqs',
    kvUse: 'sglang:token_usage',
    blocks: null,
  },
  contextOf: (entry) => countIn(entry.max_model_len) ?? null,
  contextInfo: null,
};
