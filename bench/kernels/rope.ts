// Rotation and the KV write over the heads of SmolLM2-135M in each KV format. Bytes: q, k, v, slots and rotation read, q and the rows of the arena
// written.
import { prepareRope } from '../../test/support/rowKernels.ts';
import type { KvShape } from '../../wgsl/attention/shape.ts';
import { BLOCK_SLOTS, KV_FORMATS, kvBlockBytes } from '../../wgsl/kv/format.ts';
import type { KernelCase, Operation } from './operation.ts';

const SHAPE: KvShape = { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 };

export const rope: Operation = {
  name: 'rope',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    const { heads, kvHeads, headDim, ropeDim } = SHAPE;
    for (const format of quick ? (['f16'] as const) : KV_FORMATS)
      for (const tokens of quick ? [1] : [1, 16, 512]) {
        const blockBytes = kvBlockBytes(format, kvHeads, headDim);
        const perToken = (heads + 2 * kvHeads) * headDim;
        const { encode } = await prepareRope(gpu, {
          ...{ shape: SHAPE, format },
          // q is scaled in place, run after run: anything but zeros would end as denormal numbers.
          qkv: new Float32Array(tokens * perToken),
          slots: Uint32Array.from({ length: tokens }, (_, i) => i),
          rotation: Float32Array.from({ length: tokens * ropeDim }, (_, i) => (i % 2 ? Math.sin(i) : Math.cos(i))),
          arena: new Uint32Array((Math.ceil(tokens / BLOCK_SLOTS) * blockBytes) / 4),
        });
        cases.push({
          parameters: { format, tokens },
          // Two for each dim of q and k.
          macs: tokens * 2 * (heads + kvHeads) * ropeDim,
          bytes: tokens * (4 * (perToken + heads * headDim + ropeDim + 1) + blockBytes / BLOCK_SLOTS),
          encode,
        });
      }
    return cases;
  },
};
