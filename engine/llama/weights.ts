// Which tensors a llama model has and which of them are computed together: q, k, v as one matrix, gate and up as another.

import { hasScales } from '../../wgsl/matmul/layout.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile, TensorInfo } from '../model/types.ts';
import type { HeldWeights } from './heldWeights.ts';
import { type Matrix, type MatrixOptions, runsOfEqualKind } from './matrix.ts';
import { WeightStream } from './weightStream.ts';

/** Matrices with the same input; together they give one row of results. */
export interface Projection {
  runs: { matrix: Matrix; firstRow: number }[];
  rows: number;
  cols: number;
  /** All of them quantised: they can take int8 activations. */
  quantized: boolean;
  /** Two tensors of equal rows, four of each per lane: what a lane computes belongs together. */
  interleaved: boolean;
}

export interface LayerWeights {
  attentionNorm: GPUBuffer;
  qkv: Projection;
  output: Projection;
  feedForwardNorm: GPUBuffer;
  gateUp: Projection;
  down: Projection;
}

export interface Weights {
  embedding: Matrix;
  layers: LayerWeights[];
  finalNorm: GPUBuffer;
  head: Projection;
  /** All that the matrices and norms are made of. */
  buffers: readonly GPUBuffer[];
}

/** Allocates everything, then fills it in one pass over the file, or with what was held of it. Throws ModelFileError. */
export async function uploadWeights(
  device: GPUDevice,
  file: ModelFile,
  options: MatrixOptions,
  onProgress: (doneBytes: number, totalBytes: number) => void,
  held: HeldWeights | null = null,
): Promise<Weights> {
  const stream = new WeightStream(device, file, options);
  const tensor = (name: string): TensorInfo => {
    const found = file.tensors.get(name);
    invariant(found, 'the checked model file has every tensor', { name });
    return found;
  };
  const vector = (name: string): GPUBuffer => {
    const info = tensor(name);
    invariant(info.type === 'F32', 'the checked model file has norms in F32', { name, type: info.type });
    return stream.vector(info);
  };
  const projection = (...names: string[]): Projection => {
    const runs: { matrix: Matrix; firstRow: number }[] = [];
    let rows = 0;
    for (const run of runsOfEqualKind(names.map(tensor))) {
      runs.push({ matrix: stream.matrix(run), firstRow: rows });
      rows += run.reduce((sum, part) => sum + part.rows, 0);
    }
    return asProjection(runs, rows);
  };

  /** As one matrix where the two are of one kind; else one after the other. */
  const interleaved = (...names: [string, string]): Projection => {
    const tensors = names.map(tensor);
    if (runsOfEqualKind(tensors).length > 1) return projection(...names);
    const matrix = stream.matrix(tensors, true);
    return { ...asProjection([{ matrix, firstRow: 0 }], matrix.layout.rows), interleaved: true };
  };

  const embedding = stream.matrix([tensor('token_embd.weight')]);
  const layers = Array.from({ length: file.config.layers }, (_, layer): LayerWeights => {
    const name = (part: string): string => `blk.${layer}.${part}.weight`;
    return {
      attentionNorm: vector(name('attn_norm')),
      qkv: projection(name('attn_q'), name('attn_k'), name('attn_v')),
      output: projection(name('attn_output')),
      feedForwardNorm: vector(name('ffn_norm')),
      gateUp: interleaved(name('ffn_gate'), name('ffn_up')),
      down: projection(name('ffn_down')),
    };
  });
  const finalNorm = vector('output_norm.weight');
  const head = file.config.tiedHead
    ? asProjection([{ matrix: embedding, firstRow: 0 }], file.config.vocabSize)
    : projection('output.weight');
  await (held ? stream.restore(held) : stream.run(onProgress));
  return { embedding, layers, finalNorm, head, buffers: stream.buffers };
}

function asProjection(runs: Projection['runs'], rows: number): Projection {
  const layouts = runs.map(({ matrix }) => matrix.layout);
  const quantized = layouts.every(({ kind }) => hasScales(kind));
  return { runs, rows, cols: layouts[0]?.cols ?? 0, quantized, interleaved: false };
}
