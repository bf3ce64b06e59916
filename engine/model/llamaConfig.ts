// Hyperparameters of the architecture `llama` from GGUF metadata, and the tensors that they call for. Everything that would change
// the arithmetic and isn't computed here (YaRN, experts, sliding windows) is refused by name instead of being ignored.
import { ModelFileError } from './errors.ts';
import type { GgufMetadata, GgufValue } from './gguf.ts';
import type { ModelConfig } from './types.ts';

/** Inclusive ranges of what is believable; the largest known llama (405B) is in the middle of each. */
export const LIMITS = {
  layers: [1, 1024],
  hidden: [1, 131_072],
  feedForward: [1, 1_048_576],
  heads: [1, 1024],
  headDim: [2, 1024],
  vocabSize: [1, 2_000_000],
  contextLength: [1, 16_777_216],
  ropeTheta: [1, 1e12],
  rmsEpsilon: [1e-12, 0.1],
  ropeScale: [1e-3, 1e6],
} as const;

/** Divisors of the rotary frequencies, one per pair of dimensions: how GGUF writes Llama 3's rope scaling. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** Keys that change the computation unless they have one of these values. */
const NEUTRAL: readonly (readonly [key: string, ...neutral: GgufValue[]])[] = [
  ['llama.rope.scaling.attn_factor', 1],
  ['llama.expert_count', 0],
  ['llama.attention.causal', true],
  ['llama.attention.sliding_window', 0],
  ['llama.attention.clamp_kqv', 0],
  ['llama.attention.max_alibi_bias', 0],
  ['llama.use_parallel_residual', false],
  ['llama.logit_scale', 1],
  ['llama.residual_scale', 1],
  ['llama.embedding_scale', 1],
  ['llama.attention.scale', 0],
];

function shown(value: GgufValue | undefined): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'object') return `an array of ${value.length}`;
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value);
}

function number(metadata: GgufMetadata, key: string, range: readonly [number, number], fallback?: number): number {
  const value = metadata.get(key) ?? fallback;
  if (typeof value === 'number' && value >= range[0] && value <= range[1]) return value;
  throw new ModelFileError(
    'malformed',
    `metadata ${key} is ${shown(value)}; a number from ${range[0]} to ${range[1]} is supported`,
  );
}

function integer(metadata: GgufMetadata, key: string, range: readonly [number, number], fallback?: number): number {
  const value = number(metadata, key, range, fallback);
  if (Number.isInteger(value)) return value;
  throw new ModelFileError('malformed', `metadata ${key} is ${value}; a whole number is supported`);
}

/**
 * How many times longer positions are made, as llama.cpp reads it: a factor without a type means linear, and 0 none. Llama 3's scaling is no
 * metadata but the tensor rope_freqs.weight.
 */
function ropeScale(metadata: GgufMetadata): number {
  const type = metadata.get('llama.rope.scaling.type') ?? 'linear';
  if (type === 'none') return 1;
  if (type !== 'linear')
    throw new ModelFileError(
      'unsupported',
      `metadata llama.rope.scaling.type is ${shown(type)}; "none", "linear" and Llama 3's tensor rope_freqs.weight are supported`,
    );
  for (const key of ['llama.rope.scaling.factor', 'llama.rope.scale_linear']) {
    const factor = metadata.get(key);
    if (factor !== undefined && factor !== 0) return number(metadata, key, LIMITS.ropeScale);
  }
  return 1;
}

/** `tiedHead`: the file has no output.weight. Throws ModelFileError. */
export function readLlamaConfig(metadata: GgufMetadata, tiedHead: boolean): ModelConfig {
  const architecture = metadata.get('general.architecture');
  if (architecture !== 'llama')
    throw new ModelFileError('unsupported', `general.architecture is ${shown(architecture)}; "llama" is supported`);
  for (const [key, ...neutral] of NEUTRAL) {
    const value = metadata.get(key);
    if (value !== undefined && !neutral.includes(value))
      throw new ModelFileError(
        'unsupported',
        `metadata ${key} is ${shown(value)}; only ${shown(neutral[0])} is supported`,
      );
  }
  const tokens = metadata.get('tokenizer.ggml.tokens');
  if (!Array.isArray(tokens))
    throw new ModelFileError(
      'malformed',
      `metadata tokenizer.ggml.tokens is ${shown(tokens)}; an array of strings is needed`,
    );
  const vocabSize = integer(metadata, 'llama.vocab_size', LIMITS.vocabSize, tokens.length);
  if (vocabSize !== tokens.length)
    throw new ModelFileError(
      'malformed',
      `metadata llama.vocab_size is ${vocabSize}, but tokenizer.ggml.tokens has ${tokens.length}; they must be equal`,
    );

  const hidden = integer(metadata, 'llama.embedding_length', LIMITS.hidden);
  const heads = integer(metadata, 'llama.attention.head_count', LIMITS.heads);
  const kvHeads = integer(metadata, 'llama.attention.head_count_kv', LIMITS.heads, heads);
  if (heads % kvHeads !== 0)
    throw new ModelFileError(
      'malformed',
      `metadata llama.attention.head_count ${heads} is no multiple of head_count_kv ${kvHeads}`,
    );
  const headDim = integer(metadata, 'llama.attention.key_length', LIMITS.headDim, hidden / heads);
  const valueLength = integer(metadata, 'llama.attention.value_length', LIMITS.headDim, headDim);
  if (valueLength !== headDim)
    throw new ModelFileError(
      'unsupported',
      `metadata llama.attention.value_length is ${valueLength}; only the key length ${headDim} is supported`,
    );
  const ropeDim = integer(metadata, 'llama.rope.dimension_count', LIMITS.headDim, headDim);
  if (ropeDim % 2 !== 0 || ropeDim > headDim)
    throw new ModelFileError(
      'malformed',
      `metadata llama.rope.dimension_count is ${ropeDim}; an even number up to the head dimension ${headDim} is supported`,
    );
  const name = metadata.get('general.name');
  return {
    architecture,
    name: typeof name === 'string' ? name.slice(0, 256) : 'unnamed',
    layers: integer(metadata, 'llama.block_count', LIMITS.layers),
    hidden,
    feedForward: integer(metadata, 'llama.feed_forward_length', LIMITS.feedForward),
    heads,
    kvHeads,
    headDim,
    vocabSize,
    contextLength: integer(metadata, 'llama.context_length', LIMITS.contextLength),
    ropeTheta: number(metadata, 'llama.rope.freq_base', LIMITS.ropeTheta, 10_000),
    ropeDim,
    ropeScale: ropeScale(metadata),
    rmsEpsilon: number(metadata, 'llama.attention.layer_norm_rms_epsilon', LIMITS.rmsEpsilon),
    tiedHead,
  };
}

/** `vector`: always F32; `optional`: a model may lack it. */
export interface ExpectedTensor {
  rows: number;
  cols: number;
  vector: boolean;
  optional: boolean;
}

/** Shape of every tensor that a model has or may have. */
export function llamaTensors(config: ModelConfig): Map<string, ExpectedTensor> {
  const { hidden, feedForward, heads, kvHeads, headDim, vocabSize } = config;
  const tensors = new Map<string, ExpectedTensor>();
  const matrix = (name: string, rows: number, cols: number) =>
    tensors.set(name, { rows, cols, vector: false, optional: false });
  const vector = (name: string, cols: number, optional = false) =>
    tensors.set(name, { rows: 1, cols, vector: true, optional });
  matrix('token_embd.weight', vocabSize, hidden);
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `blk.${layer}`;
    vector(`${prefix}.attn_norm.weight`, hidden);
    matrix(`${prefix}.attn_q.weight`, heads * headDim, hidden);
    matrix(`${prefix}.attn_k.weight`, kvHeads * headDim, hidden);
    matrix(`${prefix}.attn_v.weight`, kvHeads * headDim, hidden);
    matrix(`${prefix}.attn_output.weight`, hidden, heads * headDim);
    vector(`${prefix}.ffn_norm.weight`, hidden);
    matrix(`${prefix}.ffn_gate.weight`, feedForward, hidden);
    matrix(`${prefix}.ffn_up.weight`, feedForward, hidden);
    matrix(`${prefix}.ffn_down.weight`, hidden, feedForward);
  }
  vector('output_norm.weight', hidden);
  vector(ROPE_FACTORS, config.ropeDim / 2, true);
  if (!config.tiedHead) matrix('output.weight', vocabSize, hidden);
  return tensors;
}
