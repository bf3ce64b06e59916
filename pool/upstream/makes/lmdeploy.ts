// LMDeploy, `lmdeploy serve api_server`. After lmdeploy/serve/openai/{protocol,api_server}.py of 0.9 and lmdeploy/metrics/loggers.py. Ids of each
// chunk come as `gen_tokens` (`return_token_ids`), usage with the last. n other than 1 is not served there. Its prefix cache (off unless
// --enable-prefix-caching) has no salts and can't be done without, so tenants share it. /v1/encode counts text, not chats.
import { countIn, idsIn, listIn, type Make, NAMED_ALIKE, recordIn } from '../make.ts';

export const lmdeploy: Make = {
  title: 'LMDeploy',
  sampling: NAMED_ALIKE,
  sendsNeutral: true,
  allTopK: 0,
  seed: (seed) => seed,
  logitBias: true,
  choices: false,
  promptLists: false,
  promptIds: false,
  logprobs: { chat: true, completion: true },
  always: { stream_options: { include_usage: true }, return_token_ids: true },
  priority: null,
  cache: { kind: 'none' },
  counter: {
    chat: null,
    render: null,
    text: (_, input) => ({
      path: '/v1/encode',
      body: { input, do_preprocess: false, add_bos: true },
      tokens: (answer) => countIn(recordIn(answer).length) ?? null,
    }),
  },
  tellsPrompt: false,
  counts: (chunk) => {
    const choice = recordIn(listIn(chunk.choices)[0]);
    const ids = idsIn(recordIn(choice.delta).gen_tokens) ?? idsIn(choice.gen_tokens);
    return ids ? { ids } : {};
  },
  healthPath: '/health',
  figures: {
    path: '/metrics',
    running: 'lmdeploy:num_requests_running',
    waiting: 'lmdeploy:num_requests_waiting',
    kvUse: 'lmdeploy:gpu_cache_usage_perc',
    blocks: null,
  },
  contextOf: () => null,
  contextInfo: null,
};
