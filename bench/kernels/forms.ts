// Forms of the matrix kernel over numbers of rows, where one dispatch can have them all: with many rows a GPU has lanes enough without slices of K.
import { rowByteLength } from '../../engine/model/tensorTypes.ts';
import { type MatmulCase, prepareMatmul } from '../../test/support/matmulRig.ts';
import { formLabel, formsOf, takesAllRows } from '../../wgsl/matmul/variant.ts';
import { LAYER_SHAPES } from './matmul.ts';
import type { KernelCase, Operation } from './operation.ts';

export const forms: Operation = {
  name: 'forms',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const { maxComputeWorkgroupStorageSize: workgroupBytes, maxComputeInvocationsPerWorkgroup: maxLanes } =
      gpu.device.limits;
    const { subgroupSize, software } = gpu;
    const all = formsOf('storage', true, { software, subgroupSize, maxLanes, workgroupBytes }).filter(
      (form) => takesAllRows(form) && form.subgroup === null && (form.slices > 8 || form.lanes === 64),
    );
    const cases: KernelCase[] = [];
    for (const tokens of quick ? [64] : [16, 64, 256])
      for (const [rows, cols] of LAYER_SHAPES.slice(2))
        for (const { form, columns } of all.flatMap((each) =>
          (each.slices > 1 ? [4] : [4, 8]).map((count) => ({ form: each, columns: count as 4 | 8 })),
        )) {
          if (quick && cases.length > 0) break;
          const given: MatmulCase = {
            type: 'Q4_1',
            activations: 'int8',
            rows,
            cols,
            tokens,
            weights: 'storage',
            broadcast: false,
          };
          const source = new Uint8Array(rows * rowByteLength(given.type, cols));
          const x = Float32Array.from({ length: tokens * cols }, (_, i) => Math.sin(i));
          const variant = { kind: 'q4', activations: 'int8', columns, ...form } as const;
          const { encode, weightBytes } = await prepareMatmul(gpu, given, variant, source, x);
          cases.push({
            parameters: { shape: `${rows}×${cols}`, tokens, columns, form: formLabel(form) },
            ...{ macs: rows * cols * tokens, bytes: weightBytes + tokens * (rows + cols) * 4, encode },
          });
        }
    return cases;
  },
};
