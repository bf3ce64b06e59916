// One matrix kernel variant on the GPU, from a tensor's bytes as a file has them to the result: pack, upload, quantise x, multiply. For tests
// and for the bench.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { tileDispatches, xGroupBytesOf } from '../../engine/llama/matmulDispatches.ts';
import type { Epilogue } from '../../wgsl/matmul/epilogue.ts';
import { BLOCK, layoutMatrix, TOKEN_GROUP, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import { INTERLEAVED, KIND_OF, packRows, type SourceType, STACKED, sourceRowBytes } from '../../wgsl/matmul/pack.ts';
import { broadcastLanes, COLUMNS, formsOf, type MatmulVariant, takesAllRows } from '../../wgsl/matmul/variant.ts';
import { download, type Encode, pipelinesOf, submit, upload } from './gpu.ts';
import { prepareQuantize } from './rowKernels.ts';

export interface MatmulCase {
  type: SourceType;
  activations: MatmulVariant['activations'];
  rows: number;
  cols: number;
  tokens: number;
  weights: MatmulVariant['weights'];
  broadcast: boolean;
  /** 1: a lane goes through all blocks, also where the rule has several share them. */
  slices?: 1;
}

/** The case's form with each number of columns: each has to give the same bits. */
export function variantsOf(gpu: OpenedDevice, test: MatmulCase): MatmulVariant[] {
  const fits = xGroupBytesOf(test.cols / 32, test.activations) <= UNIFORM_WINDOW_BYTES;
  const { subgroupSize } = gpu;
  const workgroupBytes = gpu.device.limits.maxComputeWorkgroupStorageSize;
  const adapter = { software: test.weights === 'uniform', subgroupSize, maxLanes: 256, workgroupBytes };
  const [rule] = formsOf(test.weights, fits, adapter).filter((form) => (test.slices ?? form.slices) === form.slices);
  const form = {
    ...rule!,
    ...(rule!.slices === 1 && { subgroup: test.broadcast ? broadcastLanes(subgroupSize) : null }),
  };
  return COLUMNS.map((columns) => ({ kind: KIND_OF[test.type], activations: test.activations, columns, ...form }));
}

export interface PreparedMatmul {
  encode: Encode;
  /** Packed weights. */
  weightBytes: number;
  /** out [tokens, rows] of what was last encoded and submitted. */
  result(): Promise<Float32Array>;
  destroy(): void;
}

/** What takes the sums in place of a buffer of the rig's own. The test's rows are those of gate, then of up, where they are interleaved. */
export interface FusedCase {
  epilogue: Epilogue;
  interleaved: boolean;
  out: GPUBuffer;
  outStride: number;
  outGroupBytes: number;
  bindings: readonly GPUBuffer[];
}

/** Packs and uploads the weights, quantises x (up to 16 tokens, or any number for forms that take all rows), and builds the dispatches of the product. */
export async function prepareMatmul(
  gpu: OpenedDevice,
  test: MatmulCase,
  variant: MatmulVariant,
  source: Uint8Array,
  x: Float32Array,
  fused: FusedCase | null = null,
): Promise<PreparedMatmul> {
  const { device } = gpu;
  const pipelines = pipelinesOf(device);
  const { rows, cols, tokens } = test;
  const layout = layoutMatrix(variant.kind, rows, cols, test.weights === 'uniform' ? UNIFORM_WINDOW_BYTES : 2 ** 22);
  if (!layout) throw new Error('the matrix does not fit this variant');
  const words = new Uint32Array((layout.tiles * layout.tileBytes) / 4);
  const spreads = fused?.interleaved ? INTERLEAVED : [STACKED];
  const own = rows / spreads.length;
  for (const [i, spread] of spreads.entries()) {
    const part = source.subarray(i * own * sourceRowBytes(layout, test.type));
    packRows(layout, test.type, part, 0, own, words, spread);
  }
  const { STORAGE, UNIFORM, COPY_SRC } = GPUBufferUsage;
  const matrix = upload(device, words, STORAGE | UNIFORM, words.byteLength + UNIFORM_WINDOW_BYTES);
  const groups = takesAllRows(variant) ? Math.ceil(tokens / TOKEN_GROUP) : 1;
  const xBytes = groups * xGroupBytesOf(cols / BLOCK, test.activations) + UNIFORM_WINDOW_BYTES;
  const quantized = await prepareQuantize(gpu, {
    ...{ source: 'plain', format: test.activations, width: cols, tokens, rows: x.slice() },
    activations: new Uint32Array(xBytes / 4),
  });
  submit(device, quantized.encode);
  const stride = Math.ceil(rows / 8) * 8;
  const out = fused?.out ?? device.createBuffer({ size: groups * TOKEN_GROUP * stride * 4, usage: STORAGE | COPY_SRC });
  const pipeline = await pipelines.matmul(variant, fused?.epilogue);
  const part = { buffer: matrix, firstTile: 0, tiles: layout.tiles };
  const tiles = tileDispatches(pipelines, part, {
    ...{ layout, activations: test.activations, form: variant, out, firstRow: 0, outStride: stride, groups },
    x: quantized.buffers.activations,
    ...fused,
  });
  const offsets = [0, 0, ...(fused?.epilogue.bindings.filter(({ grouped }) => grouped).map(() => 0) ?? [])];
  return {
    encode(pass) {
      pass.setPipeline(pipeline);
      for (const { bindGroup, workgroups } of tiles) {
        pass.setBindGroup(0, bindGroup, offsets);
        pass.dispatchWorkgroups(workgroups, Math.ceil(tokens / variant.columns));
      }
    },
    weightBytes: words.byteLength,
    async result() {
      const padded = new Float32Array(await download(device, out));
      const result = new Float32Array(tokens * rows);
      for (let t = 0; t < tokens; t++) result.set(padded.subarray(t * stride, t * stride + rows), t * rows);
      return result;
    },
    destroy() {
      quantized.destroy();
      for (const buffer of [matrix, out]) buffer.destroy();
    },
  };
}

/** out [tokens, rows] of up to 16 tokens. */
export async function runMatmul(
  gpu: OpenedDevice,
  test: MatmulCase,
  variant: MatmulVariant,
  source: Uint8Array,
  x: Float32Array,
): Promise<Float32Array> {
  const prepared = await prepareMatmul(gpu, test, variant, source, x);
  submit(gpu.device, prepared.encode);
  const result = await prepared.result();
  prepared.destroy();
  return result;
}
