// Rows as activations of the next matrix: as they are, and SiLU(gate)·up. Bytes: the source read, activations written.
import { prepareQuantize } from '../../test/support/rowKernels.ts';
import { storedWords } from '../../wgsl/quantize/reference.ts';
import { sourceWidth } from '../../wgsl/quantize/shader.ts';
import { type KernelCase, type Operation, ROW_CASES } from './operation.ts';

export const quantize: Operation = {
  name: 'quantize',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    for (const source of quick ? (['gated'] as const) : (['plain', 'gated'] as const))
      for (const { format, width, tokens } of quick ? ROW_CASES.slice(0, 1) : ROW_CASES) {
        const rows = Float32Array.from({ length: tokens * sourceWidth({ source }, width) }, (_, i) => Math.sin(i));
        const activations = new Uint32Array(tokens * (width / 32) * storedWords(format));
        const { encode } = await prepareQuantize(gpu, { source, format, width, tokens, rows, activations });
        cases.push({
          parameters: { source, activations: format, width, tokens },
          macs: 0,
          bytes: rows.byteLength + activations.byteLength,
          encode,
        });
      }
    return cases;
  },
};
