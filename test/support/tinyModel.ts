// A tiny random llama as a GGUF file: for kernels, the CPU reference, and as the clean start of hostile files. The same dimensions
// and seed give the same bytes.
import { rename, writeFile } from 'node:fs/promises';
import { llamaTensors, ROPE_FACTORS } from '../../engine/model/llamaConfig.ts';
import { BLOCK_LAYOUT, ggmlTypeOf } from '../../engine/model/tensorTypes.ts';
import type { TensorType } from '../../engine/model/types.ts';
import { ggufBytes, type WrittenTensor, type WrittenValue } from './ggufWriter.ts';
import { quantize } from './quantize.ts';
import { tinyVocabulary } from './tinyVocabulary.ts';

export interface TinyModelOptions {
  layers: number;
  hidden: number;
  feedForward: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** From 259 every byte has a token; below 130 the file opens, but its text side is refused for want of ASCII. */
  vocabSize: number;
  contextLength: number;
  /** Type of every matrix. */
  type: TensorType;
  /** Type of token_embd and output; as `type` when absent. */
  headType?: TensorType;
  /** Types of tensors by name, before the other two. */
  types?: Readonly<Record<string, TensorType>>;
  tied: boolean;
  /** Values of rope_freqs.weight; the file has none when absent. */
  ropeFactors?: readonly number[];
  /** llama.rope.scaling.factor. */
  ropeScale?: number;
  seed: number;
}

export interface TinyModel {
  metadata: [key: string, value: WrittenValue][];
  tensors: WrittenTensor[];
}

/** Dimensions of whole blocks where `type`'s are longer than the rows of the smallest models. */
export function roomFor(type: TensorType): Partial<TinyModelOptions> {
  return BLOCK_LAYOUT[type].elements > 32 ? { hidden: 256, feedForward: 512, heads: 8, kvHeads: 2, headDim: 32 } : {};
}

/** Standard normal numbers from a seed: mulberry32 and Box-Muller. */
function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** The parts of the file, to be changed before they are written. */
export function tinyModel(options: TinyModelOptions): TinyModel {
  const { layers, hidden, feedForward, heads, kvHeads, headDim, vocabSize, contextLength, type, seed } = options;
  const metadata: TinyModel['metadata'] = [
    ['general.architecture', ['string', 'llama']],
    ['general.name', ['string', `tiny-${type}-${seed}`]],
    ['llama.block_count', ['u32', layers]],
    ['llama.context_length', ['u32', contextLength]],
    ['llama.embedding_length', ['u32', hidden]],
    ['llama.feed_forward_length', ['u32', feedForward]],
    ['llama.attention.head_count', ['u32', heads]],
    ['llama.attention.head_count_kv', ['u32', kvHeads]],
    ['llama.attention.key_length', ['u32', headDim]],
    ['llama.attention.value_length', ['u32', headDim]],
    ['llama.attention.layer_norm_rms_epsilon', ['f32', 1e-5]],
    ['llama.rope.freq_base', ['f32', 10_000]],
    ['llama.rope.dimension_count', ['u32', headDim]],
    ['llama.vocab_size', ['u32', vocabSize]],
    ...tinyVocabulary(vocabSize),
  ];
  if (options.ropeScale) metadata.push(['llama.rope.scaling.factor', ['f32', options.ropeScale]]);
  const normal = normals(seed);
  const shapes = llamaTensors({
    ...{ architecture: 'llama', name: '', ropeTheta: 10_000, ropeScale: 1, ropeDim: headDim, rmsEpsilon: 1e-5 },
    ...{ layers, hidden, feedForward, heads, kvHeads, headDim, vocabSize, contextLength, tiedHead: options.tied },
  });
  const tensors = [...shapes]
    .filter(([, { optional }]) => !optional)
    .map(([name, { rows, cols, vector }]): WrittenTensor => {
      const head = name === 'token_embd.weight' || name === 'output.weight';
      const tensorType = vector ? 'F32' : (options.types?.[name] ?? (head ? (options.headType ?? type) : type));
      // Matrices keep a row's scale; logits spread over several units, so that ranks mean something.
      const scale = head ? 1 : 1 / Math.sqrt(cols);
      const values = new Float32Array(rows * cols);
      for (let i = 0; i < values.length; i++) values[i] = vector ? 1 + 0.1 * normal() : scale * normal();
      const dimensions = vector ? [cols] : [cols, rows];
      return { name, dimensions, ggmlType: ggmlTypeOf(tensorType), bytes: quantize(tensorType, values) };
    });
  if (options.ropeFactors) {
    const bytes = quantize('F32', Float32Array.from(options.ropeFactors));
    tensors.push({ name: ROPE_FACTORS, dimensions: [options.ropeFactors.length], ggmlType: ggmlTypeOf('F32'), bytes });
  }
  return { metadata, tensors };
}

/** Writes the model to `path`, whole or not at all. */
export async function writeTinyModel(path: string, options: TinyModelOptions): Promise<void> {
  const { metadata, tensors } = tinyModel(options);
  await writeFile(`${path}.part`, ggufBytes(metadata, tensors));
  await rename(`${path}.part`, path);
}
