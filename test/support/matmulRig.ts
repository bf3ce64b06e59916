// One matrix kernel variant on the GPU, from a tensor's bytes as a file has them to the result: pack, upload, quantise x, multiply. For tests
// and for the bench.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { tileParams, tileWorkgroups, windowBindings } from '../../wgsl/matmul/host.ts';
import { layoutMatrix, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import { KIND_OF, packRows, type SourceType } from '../../wgsl/matmul/pack.ts';
import { broadcastLanes, COLUMNS, type MatmulVariant, TOKEN_GROUP, X_PARTS } from '../../wgsl/matmul/variant.ts';
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

/** Variants that one case may be computed by: each has to give the same bits. */
export function variantsOf(gpu: OpenedDevice, test: MatmulCase): MatmulVariant[] {
  const fits = TOKEN_GROUP * (test.cols / 32) * X_PARTS[test.activations] * 16 <= UNIFORM_WINDOW_BYTES;
  return COLUMNS.map((columns) => ({
    kind: KIND_OF[test.type],
    activations: test.activations,
    columns,
    weights: test.weights,
    x: fits && test.weights === 'uniform' ? 'uniform' : 'storage',
    subgroup: test.broadcast ? broadcastLanes(gpu.subgroupSize) : null,
  }));
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
  const layout = layoutMatrix(variant.kind, rows, cols, variant.weights === 'uniform' ? UNIFORM_WINDOW_BYTES : 2 ** 22);
  if (!layout) throw new Error('the matrix does not fit this variant');
  const words = new Uint32Array((layout.tiles * layout.tileBytes) / 4);
  packRows(layout, test.type, source, 0, rows, words);
  const { STORAGE, UNIFORM, COPY_SRC } = GPUBufferUsage;
  const matrix = upload(device, words, STORAGE | UNIFORM, words.byteLength + UNIFORM_WINDOW_BYTES);
  const xGroupBytes = TOKEN_GROUP * blocks * X_PARTS[test.activations] * 16;
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
  const tiles = Array.from({ length: layout.tiles }, (_, tile) => {
    const params = tileParams(layout, tile, 0, stride);
    const entries = [
      ...windowBindings(matrix, tile * layout.tileBytes, layout, variant.weights),
      {
        binding: 10,
        resource: { buffer: xBuffer, size: variant.x === 'uniform' ? UNIFORM_WINDOW_BYTES : xGroupBytes },
      },
      { binding: 11, resource: { buffer: out } },
      { binding: 12, resource: { buffer: upload(device, params, UNIFORM) } },
    ];
    return {
      bindGroup: device.createBindGroup({ layout: pipelines.matmulLayout(variant), entries }),
      workgroups: tileWorkgroups(variant, layout, tile),
    };
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
