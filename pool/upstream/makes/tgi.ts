// Text Generation Inference. After router/src/{lib,chat,server,validation}.rs of 3.x, docs/source/reference/metrics.md. Of a chat it ignores n,
// logit_bias and the model's name, and takes presence_penalty for a repetition penalty two too small: those are refused here. A neutral
// top_p is an error there, so what changes nothing is not sent. A chunk brings a token, and the last one the usage. Its prefix cache has
// no salts and can't be done without, so tenants share it.
import { countIn, listLength, type Make, NAMED_ALIKE, recordIn } from '../make.ts';

export const tgi: Make = {
  title: 'TGI',
  sampling: { ...NAMED_ALIKE, top_k: null, min_p: null, presence_penalty: null, repetition_penalty: null },
  completionSampling: { repetition_penalty: 'repetition_penalty' },
  sendsNeutral: false,
  allTopK: 0,
  seed: (seed) => seed,
  logitBias: false,
  choices: false,
  promptLists: false,
  promptIds: false,
  logprobs: { chat: true, completion: false },
  always: { stream_options: { include_usage: true } },
  priority: null,
  cache: { kind: 'none' },
  counter: {
    chat: (model, messages) => ({
      path: '/chat_tokenize',
      body: { model, messages },
      tokens: listLength('tokenize_response'),
    }),
    render: null,
    text: (_, inputs) => ({ path: '/tokenize', body: { inputs }, tokens: listLength(null) }),
  },
  tellsPrompt: false,
  counts: () => ({}),
  healthPath: '/health',
  figures: {
    path: '/metrics',
    running: 'tgi_batch_current_size',
    waiting: 'tgi_queue_size',
    kvUse: null,
    blocks: null,
  },
  contextOf: () => null,
  contextInfo: { path: '/info', of: (answer) => countIn(recordIn(answer).max_total_tokens) ?? null },
};
