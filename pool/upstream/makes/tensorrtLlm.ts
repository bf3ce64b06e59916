// TensorRT-LLM, `trtllm-serve`. After tensorrt_llm/serve/openai_protocol.py of its main branch of 2026 (fields it doesn't know it refuses) and
// docs/source/commands/trtllm-serve. Each chunk tells its choice's tokens so far (`continuous_usage_stats`). Only chats have a salt:
// completions share one cache. It tells no context length and has no documented route that counts, so one token is generated to be told.
import { continuousUsage, type Make, NAMED_ALIKE } from '../make.ts';

export const tensorrtLlm: Make = {
  title: 'TensorRT-LLM',
  sampling: NAMED_ALIKE,
  sendsNeutral: true,
  allTopK: 0,
  seed: (seed) => seed,
  logitBias: true,
  // Whose tokens a chunk of several choices counts is not documented.
  choices: false,
  promptLists: false,
  promptIds: true,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true, continuous_usage_stats: true } },
  // From 0 to 1; 0.5 is what a request without one has.
  priority: (priority) => ({ priority: 0.5 + priority / 200 }),
  cache: { kind: 'salt', field: { chat: 'cache_salt', completion: null } },
  counter: { chat: null, render: null, text: null },
  tellsPrompt: true,
  counts: continuousUsage,
  healthPath: '/health',
  figures: {
    path: '/prometheus/metrics',
    running: 'trtllm_num_requests_running',
    waiting: 'trtllm_num_requests_waiting',
    kvUse: 'trtllm_kv_cache_utilization',
    blocks: null,
  },
  contextOf: () => null,
  contextInfo: null,
};
