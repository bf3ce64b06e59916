// All products of a layer of SmolLM2-135M in Q4_1, one after the other, for a single token and for a group of 16: what prefill and decode run.

import { rowByteLength } from '../../engine/model/tensorTypes.ts';
import { type MatmulCase, type PreparedMatmul, prepareMatmul, variantsOf } from '../../test/support/matmulRig.ts';
import { columnsFor } from '../../wgsl/matmul/variant.ts';
import { LAYER_SHAPES } from './matmul.ts';
import type { KernelCase, Operation } from './operation.ts';

export const layer: Operation = {
  name: 'layer',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    for (const tokens of [1, 16]) {
      const parts: (PreparedMatmul & { macs: number })[] = [];
      for (const [rows, cols] of quick ? LAYER_SHAPES.slice(1, 2) : LAYER_SHAPES) {
        const given: MatmulCase = {
          ...{ type: 'Q4_1', activations: 'int8', rows, cols, tokens },
          ...{ weights: gpu.software ? 'uniform' : 'storage', broadcast: gpu.software },
        };
        const variant = variantsOf(gpu, given)[columnsFor(tokens) - 1]!;
        const x = Float32Array.from({ length: tokens * cols }, (_, i) => Math.sin(i));
        const source = new Uint8Array(rows * rowByteLength(given.type, cols));
        parts.push({ ...(await prepareMatmul(gpu, given, variant, source, x)), macs: rows * cols * tokens });
      }
      cases.push({
        parameters: { type: 'Q4_1', tokens },
        macs: parts.reduce((sum, { macs }) => sum + macs, 0),
        bytes: parts.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
        encode: (pass) => {
          for (const part of parts) part.encode(pass);
        },
      });
    }
    return cases;
  },
};
