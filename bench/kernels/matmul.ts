// The matrix kernel over the shapes of a layer, over tensor types, and over numbers of rows (tokens).
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { rowByteLength } from '../../engine/model/tensorTypes.ts';
import { TENSOR_TYPES } from '../../engine/model/types.ts';
import { type MatmulCase, prepareMatmul, variantsOf } from '../../test/support/matmulRig.ts';
import { hasScales } from '../../wgsl/matmul/layout.ts';
import { KIND_OF } from '../../wgsl/matmul/pack.ts';
import type { KernelCase, Operation } from './operation.ts';

/** SmolLM2-135M's matrices in Q4_1; every type at one shape; every number of rows at another. */
export const LAYER_SHAPES: [rows: number, cols: number][] = [
  [960, 576],
  [576, 576],
  [3072, 576],
  [576, 1536],
];

function casesOf(gpu: OpenedDevice, quick: boolean): MatmulCase[] {
  const weights = gpu.software ? 'uniform' : 'storage';
  const given = (part: Pick<MatmulCase, 'type' | 'rows' | 'cols' | 'tokens'>): MatmulCase => ({
    ...{ activations: hasScales(KIND_OF[part.type]) ? 'int8' : 'f32', weights, broadcast: gpu.software, ...part },
  });
  const type = 'Q4_1';
  if (quick) return [given({ type, rows: 576, cols: 576, tokens: 1 })];
  return [
    ...LAYER_SHAPES.flatMap(([rows, cols]) => [1, 16].map((tokens) => given({ type, rows, cols, tokens }))),
    ...[1, 16].map((tokens) => given({ type: 'Q8_0', rows: 8192, cols: 576, tokens })),
    ...[1, 2, 3, 4, 5, 6, 8, 12, 16].map((tokens) => given({ type, rows: 3072, cols: 1024, tokens })),
    ...TENSOR_TYPES.flatMap((each) => [1, 16].map((tokens) => given({ type: each, rows: 2048, cols: 1024, tokens }))),
  ];
}

export const matmul: Operation = {
  name: 'matmul',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    for (const given of casesOf(gpu, quick)) {
      const { type, rows, cols, tokens, activations } = given;
      // What is in the weights doesn't matter for speed, except where it makes NaN or denormal numbers: zeros make none.
      const source = new Uint8Array(rows * rowByteLength(type, cols));
      const x = Float32Array.from({ length: tokens * cols }, (_, i) => Math.sin(i));
      for (const variant of variantsOf(gpu, given)) {
        const { encode, weightBytes } = await prepareMatmul(gpu, given, variant, source, x);
        cases.push({
          parameters: { type, activations, shape: `${rows}×${cols}`, tokens, columns: variant.columns },
          macs: rows * cols * tokens,
          bytes: weightBytes + tokens * (rows + cols) * 4,
          encode,
        });
      }
    }
    return cases;
  },
};
