// One matrix kernel variant on the GPU, from a tensor's bytes as a file has them to the result: pack, upload, quantise x, multiply. For tests
// and for the bench.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { tileDispatches, xGroupBytesOf } from '../../engine/llama/matmulDispatches.ts';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { layoutMatrix, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import { KIND_OF, packRows, type SourceType } from '../../wgsl/matmul/pack.ts';
import { broadcastLanes, COLUMNS, formByRule, type MatmulVariant, TOKEN_GROUP } from '../../wgsl/matmul/variant.ts';
import { quantizeShader } from '../../wgsl/quantize/shader.ts';
import { dispatchOnce, download, upload } from './gpu.ts';

export interface MatmulCase {
  type: SourceType;
  activations: MatmulVariant['activations'];
  rows: number;
  cols: number;
  tokens: number;
  weights: MatmulVariant['weights'];
  broadcast: boolean;
}

const compiled = new WeakMap<GPUDevice, Pipelines>();

function pipelinesOf(device: GPUDevice): Pipelines {
  const pipelines = compiled.get(device) ?? new Pipelines(device);
  compiled.set(device, pipelines);
  return pipelines;
}

/** The case's form with each number of columns: each has to give the same bits. */
export function variantsOf(gpu: OpenedDevice, test: MatmulCase): MatmulVariant[] {
  const fits = xGroupBytesOf(test.cols / 32, test.activations) <= UNIFORM_WINDOW_BYTES;
  const adapter = { software: test.weights === 'uniform', subgroupSize: gpu.subgroupSize, maxLanes: 256 };
  const rule = formByRule(test.weights, fits, adapter);
  const form = { ...rule, subgroup: test.broadcast ? broadcastLanes(gpu.subgroupSize) : null };
  return COLUMNS.map((columns) => ({ kind: KIND_OF[test.type], activations: test.activations, columns, ...form }));
}

export interface PreparedMatmul {
  encode(pass: GPUComputePassEncoder): void;
  /** Packed weights. */
  weightBytes: number;
  /** out [tokens, rows] of what was last encoded and submitted. */
  result(): Promise<Float32Array>;
  destroy(): void;
}

/** Packs and uploads the weights, quantises x (up to 16 tokens), and builds the dispatches of the product. */
export async function prepareMatmul(
  { device }: OpenedDevice,
  test: MatmulCase,
  variant: MatmulVariant,
  source: Uint8Array,
  x: Float32Array,
): Promise<PreparedMatmul> {
  const pipelines = pipelinesOf(device);
  const { rows, cols, tokens } = test;
  const blocks = cols / 32;
  const layout = layoutMatrix(variant.kind, rows, cols, test.weights === 'uniform' ? UNIFORM_WINDOW_BYTES : 2 ** 22);
  if (!layout) throw new Error('the matrix does not fit this variant');
  const words = new Uint32Array((layout.tiles * layout.tileBytes) / 4);
  packRows(layout, test.type, source, 0, rows, words);
  const { STORAGE, UNIFORM, COPY_SRC } = GPUBufferUsage;
  const matrix = upload(device, words, STORAGE | UNIFORM, words.byteLength + UNIFORM_WINDOW_BYTES);
  const xGroupBytes = xGroupBytesOf(blocks, test.activations);
  const xBuffer = device.createBuffer({ size: xGroupBytes + UNIFORM_WINDOW_BYTES, usage: STORAGE | UNIFORM });
  const quantize = await pipelines.get(`quantize plain ${test.activations}`, () =>
    quantizeShader({ source: 'plain', format: test.activations }),
  );
  const counts = upload(device, Uint32Array.of(tokens, 0, 0, 0), UNIFORM);
  const shape = upload(device, Uint32Array.of(blocks, cols / 4), UNIFORM);
  dispatchOnce(
    device,
    quantize,
    [upload(device, x, STORAGE), xBuffer, shape, counts],
    Math.ceil((tokens * blocks) / 64),
  );
  const stride = Math.ceil(rows / 8) * 8;
  const out = device.createBuffer({ size: TOKEN_GROUP * stride * 4, usage: STORAGE | COPY_SRC });
  const pipeline = await pipelines.matmul(variant);
  const part = { buffer: matrix, firstTile: 0, tiles: layout.tiles };
  const tiles = tileDispatches(pipelines, part, {
    ...{ layout, activations: test.activations, form: variant, x: xBuffer, out, firstRow: 0, outStride: stride },
  });
  return {
    encode(pass) {
      pass.setPipeline(pipeline);
      for (const { bindGroup, workgroups } of tiles) {
        pass.setBindGroup(0, bindGroup, [0, 0]);
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
      for (const buffer of [matrix, xBuffer, out]) buffer.destroy();
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
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  prepared.encode(pass);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
  const result = await prepared.result();
  prepared.destroy();
  return result;
}
