// vLLM, `vllm serve`. After vllm/entrypoints/openai/{chat_completion,completion}/{protocol,serving}.py and vllm/v1/metrics/loggers.py of its
// main branch of autumn 2026, and docs/serving/openai_compatible_server.md. Counts are exact while they stream: ids of each chunk
// (`return_token_ids`, since 0.10.2) or, of an older one, its choice's tokens so far (`continuous_usage_stats`). Cached tokens come with
// --enable-prompt-tokens-details; priority needs --scheduling-policy priority, or any other than 0 is refused.
import {
  type ChunkCounts,
  continuousUsage,
  countIn,
  idsIn,
  listIn,
  type Make,
  NAMED_ALIKE,
  recordIn,
} from '../make.ts';

function counts(chunk: Readonly<Record<string, unknown>>): ChunkCounts {
  const choices = listIn(chunk.choices);
  const choice = recordIn(choices[0]);
  const ids = choices.length === 1 ? idsIn(choice.token_ids) : undefined;
  // Of a chat with the first chunk; of a completion in its choice.
  const prompt = idsIn(chunk.prompt_token_ids) ?? idsIn(choice.prompt_token_ids);
  return { ...continuousUsage(chunk), ...(ids && { ids }), ...(prompt && { prompt: prompt.length }) };
}

const tokens = (answer: unknown) => countIn(recordIn(answer).count) ?? null;

export const vllm: Make = {
  title: 'vLLM',
  sampling: NAMED_ALIKE,
  // What a request leaves out comes from the model's generation_config.json.
  sendsNeutral: true,
  allTopK: -1,
  seed: (seed) => seed,
  logitBias: true,
  choices: true,
  promptLists: true,
  promptIds: true,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true, continuous_usage_stats: true }, return_token_ids: true },
  priority: (priority) => ({ priority: -priority }), // there the lower goes first
  cache: { kind: 'salt', field: { chat: 'cache_salt', completion: 'cache_salt' } },
  counter: {
    chat: (model, messages) => ({ path: '/tokenize', body: { model, messages }, tokens }),
    render: null,
    text: (model, prompt) => ({ path: '/tokenize', body: { model, prompt }, tokens }),
  },
  tellsPrompt: true,
  counts,
  healthPath: '/health',
  figures: {
    path: '/metrics',
    running: 'vllm:num_requests_running',
    waiting: 'vllm:num_requests_waiting',
    kvUse: 'vllm:kv_cache_usage_perc',
    blocks: { sample: 'vllm:cache_config_info', label: 'num_gpu_blocks' },
  },
  contextOf: (entry) => countIn(entry.max_model_len) ?? null,
  contextInfo: null,
};
