// How each make of engine server speaks, as its documentation and sources show it: written down apart from the adapter, so that the two can
// differ. One token is one character; what a make's request may hold is told by name, and anything else is its error.
import type { MakeName } from '../../pool/upstream/makes/makes.ts';

export type Kind = 'chat' | 'completion';

/** A step of the scripted engine. */
export type Step =
  | { type: 'first'; choice: number; prompt: number }
  | { type: 'token'; choice: number; text: string; id: number; total: number; prompt: number; cached: number }
  /** `text` and `id`: of the last token; an end-of-sequence token has no text. */
  | {
      type: 'last';
      reason: 'stop' | 'length';
      choice: number;
      text: string;
      id: number;
      total: number;
      prompt: number;
      cached: number;
      /** Output tokens of all choices, where usage is told at all. */
      completion: number | null;
    }
  | { type: 'usage'; prompt: number; cached: number; completion: number };

export interface Dialect {
  /** Fields that a request of this kind may have, beyond those of all. */
  fields: Record<Kind, readonly string[]>;
  chunks: (kind: Kind, step: Step, wantsLogprobs: boolean) => object[];
  /** Body of a refusal. */
  error: (status: number, message: string) => object;
  /** A route that counts, and its answer; `text`: of a rendered chat, or a prompt. */
  counting: Record<string, (tokens: number) => unknown>;
  metrics: { path: string; text: (running: number, waiting: number, use: number) => string };
  entry: object;
  info?: { path: string; body: object };
  /** It ends a chunk with its own word for the end of a sequence. */
  stopWord?: string;
}

const SAMPLING = ['temperature', 'top_p', 'frequency_penalty', 'presence_penalty'];
const MORE_SAMPLING = [...SAMPLING, 'top_k', 'min_p', 'repetition_penalty', 'logit_bias'];
const fieldsOf = (own: readonly string[]) => ({
  chat: [...own, 'logprobs', 'top_logprobs'],
  completion: [...own, 'logprobs'],
});

const usageOf = (prompt: number, completion: number, cached?: number) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  ...(cached !== undefined && { prompt_tokens_details: { cached_tokens: cached } }),
});

const bytes = (text: string) => [...new TextEncoder().encode(text)];

function logprobs(kind: Kind, text: string): object {
  const token = { token: text, logprob: -0.5, bytes: bytes(text) };
  if (kind === 'chat')
    return { content: [{ ...token, top_logprobs: [token, { token: '~', logprob: -3, bytes: [126] }] }] };
  const top = [{ [text]: -0.5, '~': -3 }];
  return { text_offset: [0], token_logprobs: [-0.5], tokens: [text], top_logprobs: top };
}

const head = (kind: Kind) => ({
  ...{ id: 'x', created: 1_700_000_000, model: 'm' },
  object: kind === 'chat' ? 'chat.completion.chunk' : 'text_completion',
});

function choiceOf(kind: Kind, step: Exclude<Step, { type: 'usage' }>, wants: boolean, extra: object = {}): object {
  const text = step.type === 'first' ? '' : step.text;
  const said =
    kind === 'chat' ? { delta: { ...(step.type === 'first' && { role: 'assistant' }), content: text } } : { text };
  return {
    index: step.choice,
    ...said,
    logprobs: wants && text !== '' ? logprobs(kind, text) : null,
    finish_reason: step.type === 'last' ? step.reason : null,
    ...extra,
  };
}

/** Ids or running totals, as asked; the finish comes with the last token (vLLM, TensorRT-LLM). */
function continuous(kind: Kind, step: Step, wants: boolean, ids: boolean, finishAlone = false): object[] {
  if (step.type === 'usage')
    return [{ ...head(kind), choices: [], usage: usageOf(step.prompt, step.completion, step.cached) }];
  if (step.type === 'first')
    return kind === 'completion'
      ? []
      : [
          {
            ...head(kind),
            choices: [choiceOf(kind, step, wants)],
            ...(ids && { prompt_token_ids: Array.from({ length: step.prompt }, (_, i) => i) }),
            ...(!finishAlone && { usage: usageOf(step.prompt, 0) }),
          },
        ];
  const usage = usageOf(step.prompt, step.total);
  const extra = ids ? { token_ids: [step.id] } : {};
  if (step.type === 'last' && finishAlone) {
    const token = { ...step, type: 'token' as const };
    const end = { ...step, text: '' };
    return [
      ...(step.text === '' ? [] : [{ ...head(kind), choices: [choiceOf(kind, token, wants)], usage }]),
      { ...head(kind), choices: [choiceOf(kind, end, wants)], usage },
    ];
  }
  return [{ ...head(kind), choices: [choiceOf(kind, step, wants, extra)], usage }];
}

/** Only usage at the end tells counts. */
function plain(kind: Kind, step: Step, wants: boolean, options: { finishAlone: boolean }): object[] {
  if (step.type === 'usage')
    return [{ ...head(kind), choices: [], usage: usageOf(step.prompt, step.completion, step.cached) }];
  if (step.type === 'first')
    return kind === 'chat' && options.finishAlone ? [{ ...head(kind), choices: [choiceOf(kind, step, wants)] }] : [];
  if (step.type === 'last' && options.finishAlone)
    return [
      ...(step.text === '' ? [] : [{ ...head(kind), choices: [choiceOf(kind, { ...step, type: 'token' }, wants)] }]),
      { ...head(kind), choices: [choiceOf(kind, { ...step, text: '' }, wants)] },
    ];
  return [{ ...head(kind), choices: [choiceOf(kind, step, wants)], usage: null }];
}

const flat = (status: number, message: string) => ({
  ...{ object: 'error', message, type: 'BadRequestError', param: null, code: status },
});
const envelope = (status: number, message: string) => ({
  error: { message, type: 'BadRequestError', param: null, code: status },
});
const gauges = (names: readonly [string, string, string | null]) => (running: number, waiting: number, use: number) =>
  [
    `# TYPE ${names[0]} gauge`,
    `${names[0]}{model_name="m",engine="0"} ${running}.0`,
    `${names[1]}{model_name="m"} ${waiting}`,
  ]
    .concat(names[2] === null ? [] : [`${names[2]}{model_name="m"} ${use}`])
    .join('\n');

export const DIALECTS: Record<MakeName, Dialect> = {
  vllm: {
    fields: fieldsOf([...MORE_SAMPLING, 'n', 'priority', 'cache_salt', 'return_token_ids']),
    chunks: (kind, step, wants) => continuous(kind, step, wants, true),
    error: envelope,
    counting: { '/tokenize': (count) => ({ count, max_model_len: 512, tokens: [] }) },
    metrics: {
      path: '/metrics',
      text: (running, waiting, use) =>
        `${gauges(['vllm:num_requests_running', 'vllm:num_requests_waiting', 'vllm:kv_cache_usage_perc'])(running, waiting, use)}\nvllm:cache_config_info{block_size="16",num_gpu_blocks="2000"} 1.0`,
    },
    entry: { max_model_len: 512 },
  },
  sglang: {
    fields: fieldsOf([...MORE_SAMPLING, 'n', 'priority', 'cache_salt']),
    chunks: (kind, step, wants) => continuous(kind, step, wants, false, true),
    error: flat,
    counting: { '/tokenize': (count) => ({ tokens: [], count, max_model_len: 512 }) },
    metrics: {
      path: '/metrics',
      text: gauges(['sglang:num_running_reqs', 'sglang:num_queue_reqs', 'sglang:token_usage']),
    },
    entry: { max_model_len: 512 },
  },
  'tensorrt-llm': {
    fields: {
      chat: [...MORE_SAMPLING, 'logprobs', 'top_logprobs', 'priority', 'cache_salt'],
      completion: [...MORE_SAMPLING, 'logprobs', 'priority'],
    },
    chunks: (kind, step, wants) => continuous(kind, step, wants, false),
    error: flat,
    counting: {},
    metrics: {
      path: '/prometheus/metrics',
      text: gauges(['trtllm_num_requests_running', 'trtllm_num_requests_waiting', 'trtllm_kv_cache_utilization']),
    },
    entry: {},
  },
  tgi: {
    fields: {
      chat: ['temperature', 'top_p', 'frequency_penalty', 'logprobs', 'top_logprobs'],
      completion: ['temperature', 'top_p', 'frequency_penalty', 'repetition_penalty'],
    },
    chunks: (kind, step, wants) => plain(kind, step, wants, { finishAlone: false }),
    error: (_, message) => ({ error: message, error_type: 'validation' }),
    counting: {
      '/chat_tokenize': (count) => ({
        tokenize_response: Array.from({ length: count }, (_, id) => ({ id })),
        templated_text: '',
      }),
      '/tokenize': (count) => Array.from({ length: count }, (_, id) => ({ id, text: '', start: 0, stop: 0 })),
    },
    metrics: { path: '/metrics', text: gauges(['tgi_batch_current_size', 'tgi_queue_size', null]) },
    entry: {},
    info: { path: '/info', body: { model_id: 'm', max_total_tokens: 512 } },
    stopWord: 'eos_token',
  },
  lmdeploy: {
    fields: fieldsOf([...MORE_SAMPLING, 'return_token_ids']),
    // Usage comes with the last choice.
    chunks: (kind, step, wants) => {
      if (step.type === 'first' || step.type === 'usage') return [];
      const ids = { gen_tokens: [step.id] };
      const choice = choiceOf(kind, step, wants, kind === 'completion' ? ids : {});
      const told = step.type === 'last' && step.completion !== null;
      return [
        {
          ...head(kind),
          choices: [kind === 'chat' ? { ...choice, delta: { role: 'assistant', content: step.text, ...ids } } : choice],
          usage: told ? usageOf(step.prompt, step.completion ?? 0) : null,
        },
      ];
    },
    error: flat,
    counting: { '/v1/encode': (length) => ({ input_ids: [], length }) },
    metrics: {
      path: '/metrics',
      text: gauges(['lmdeploy:num_requests_running', 'lmdeploy:num_requests_waiting', 'lmdeploy:gpu_cache_usage_perc']),
    },
    entry: {},
  },
  'llama.cpp': {
    fields: {
      chat: [
        ...SAMPLING,
        'top_k',
        'min_p',
        'repeat_penalty',
        'logit_bias',
        'logprobs',
        'top_logprobs',
        'cache_prompt',
        'timings_per_token',
      ],
      completion: [
        ...SAMPLING,
        'top_k',
        'min_p',
        'repeat_penalty',
        'logit_bias',
        'logprobs',
        'cache_prompt',
        'timings_per_token',
      ],
    },
    chunks: (kind, step, wants) => {
      if (step.type === 'first' || step.type === 'usage')
        return plain(kind, step, wants, { finishAlone: true }).map((chunk) =>
          step.type === 'usage'
            ? {
                ...chunk,
                timings: { cache_n: step.cached, prompt_n: step.prompt - step.cached, predicted_n: step.completion },
              }
            : chunk,
        );
      const timings = { cache_n: step.cached, prompt_n: step.prompt - step.cached, predicted_n: step.total };
      const chunks = plain(kind, step, wants, { finishAlone: true });
      return chunks.map((chunk, i) =>
        step.type === 'last' && i === chunks.length - 1 ? chunk : { ...chunk, timings },
      );
    },
    error: (code, message) => ({ error: { code, message, type: 'invalid_request_error' } }),
    counting: {
      '/apply-template': (count) => ({ prompt: 'x'.repeat(count) }),
      '/tokenize': (count) => ({ tokens: Array.from({ length: count }, (_, i) => i) }),
    },
    metrics: { path: '/metrics', text: gauges(['llamacpp:requests_processing', 'llamacpp:requests_deferred', null]) },
    entry: { meta: { n_ctx: 512, n_ctx_train: 8192 } },
  },
  openai: {
    fields: fieldsOf([...SAMPLING, 'logit_bias']),
    chunks: (kind, step, wants) => plain(kind, step, wants, { finishAlone: true }),
    error: envelope,
    counting: {},
    metrics: { path: '/absent', text: () => '' },
    entry: {},
  },
};
