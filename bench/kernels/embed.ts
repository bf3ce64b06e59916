// Rows of SmolLM2-135M's embedding, 49,152 × 576, in every tensor type that fits its width, and of a wider one in the K types, for tokens scattered over
// the vocabulary. Bytes: the packed rows and ids read, hidden and delta written.
import { allocateMatrix } from '../../engine/llama/matrix.ts';
import { rowByteLength } from '../../engine/model/tensorTypes.ts';
import { TENSOR_TYPES, type TensorType } from '../../engine/model/types.ts';
import { prepareEmbed } from '../../test/support/rowKernels.ts';
import { KINDS, laneBytes } from '../../wgsl/matmul/layout.ts';
import { KIND_OF } from '../../wgsl/matmul/pack.ts';
import type { KernelCase, Operation } from './operation.ts';

const VOCAB = 49_152;

const widthOf = (type: TensorType): number => (KINDS[KIND_OF[type]].span === 1 ? 576 : 768);

export const embed: Operation = {
  name: 'embed',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    const maxBindingBytes = gpu.device.limits.maxStorageBufferBindingSize;
    for (const type of quick ? (['Q8_0'] as const) : TENSOR_TYPES) {
      const cols = widthOf(type);
      const rows = quick ? 64 : VOCAB;
      const tensor = {
        name: 'token_embd.weight',
        type,
        rows,
        cols,
        offset: 0,
        byteLength: rows * rowByteLength(type, cols),
      };
      // Zeros: what is in the rows doesn't matter for speed, except where it makes NaN or denormal numbers.
      const matrix = allocateMatrix(gpu.device, [tensor], { uniformWindows: gpu.software, maxBindingBytes });
      const { quants, scales } = laneBytes(matrix.layout.kind, matrix.layout.blocks);
      for (const tokens of quick ? [1] : [1, 16, 512]) {
        const ids = Uint32Array.from({ length: tokens }, (_, i) => (i * 7919) % rows);
        const zeros = new Float32Array(tokens * cols);
        const { encode } = await prepareEmbed(gpu, { matrix, ids, hidden: zeros, delta: zeros });
        cases.push({
          parameters: { type, width: cols, tokens },
          macs: scales ? tokens * cols : 0,
          // A lane's scales are those of four rows.
          bytes: tokens * (quants + scales / 4 + 4 + 2 * 4 * cols),
          encode,
        });
      }
    }
    return cases;
  },
};
