// Which tensors a llama model has and which of them are computed together: q, k, v as one matrix, gate and up as another.

import { hasScales } from '../../wgsl/matmul/layout.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile, TensorInfo } from '../model/types.ts';
import { kindOf, type Matrix, runsOfEqualKind, uploadMatrix } from './matrix.ts';

/** Matrices with the same input; together they give one row of results. */
export interface Projection {
  runs: { matrix: Matrix; firstRow: number }[];
  rows: number;
  cols: number;
  /** All of them quantised: they can take int8 activations. */
  quantized: boolean;
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
}

export async function uploadWeights(
  device: GPUDevice,
  file: ModelFile,
  uniformWindows: boolean,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<Weights> {
  const total = [...file.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    onProgress(done, total);
  };
  const tensor = (name: string): TensorInfo => {
    const found = file.tensors.get(name);
    invariant(found, 'the checked model file has every tensor', { name });
    return found;
  };
  const projection = async (...names: string[]): Promise<Projection> => {
    const tensors = names.map(tensor);
    const runs: Projection['runs'] = [];
    let rows = 0;
    for (const run of runsOfEqualKind(tensors)) {
      runs.push({ matrix: await uploadMatrix(device, file, run, uniformWindows, onBytes), firstRow: rows });
      rows += run.reduce((sum, part) => sum + part.rows, 0);
    }
    const quantized = tensors.every((part) => hasScales(kindOf(part)));
    return { runs, rows, cols: (tensors[0] as TensorInfo).cols, quantized };
  };
  const vector = async (name: string): Promise<GPUBuffer> => {
    const info = tensor(name);
    invariant(info.type === 'F32', 'the checked model file has norms in F32', { name, type: info.type });
    const bytes = new Uint8Array(info.byteLength);
    await file.read(info, 0, bytes);
    onBytes(info.byteLength);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const buffer = device.createBuffer({ label: name, size: info.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, bytes);
    return buffer;
  };

  const embedding = await uploadMatrix(device, file, [tensor('token_embd.weight')], uniformWindows, onBytes);
  const layers: LayerWeights[] = [];
  for (let layer = 0; layer < file.config.layers; layer++) {
    const name = (part: string): string => `blk.${layer}.${part}.weight`;
    layers.push({
      attentionNorm: await vector(name('attn_norm')),
      qkv: await projection(name('attn_q'), name('attn_k'), name('attn_v')),
      output: await projection(name('attn_output')),
      feedForwardNorm: await vector(name('ffn_norm')),
      gateUp: await projection(name('ffn_gate'), name('ffn_up')),
      down: await projection(name('ffn_down')),
    });
    // Lets uploads drain while the next layer is packed, so that staging memory stays small.
    await device.queue.onSubmittedWorkDone();
  }
  const embeddingTensor = tensor('token_embd.weight');
  const head: Projection = file.config.tiedHead
    ? {
        runs: [{ matrix: embedding, firstRow: 0 }],
        rows: embeddingTensor.rows,
        cols: embeddingTensor.cols,
        quantized: hasScales(embedding.layout.kind),
      }
    : await projection('output.weight');
  return { embedding, layers, finalNorm: await vector('output_norm.weight'), head };
}
