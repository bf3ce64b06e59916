// The norm before a matrix, at the width of SmolLM2-135M and at one of larger models, with the lanes that a start without a tuner takes. Bytes: hidden,
// delta and weight read once, hidden and activations written.
import { prepareNormalize } from '../../test/support/rowKernels.ts';
import { normalizeLanes } from '../../wgsl/normalize/shader.ts';
import { storedWords } from '../../wgsl/quantize/reference.ts';
import { type KernelCase, type Operation, ROW_CASES } from './operation.ts';

export const normalize: Operation = {
  name: 'normalize',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    const lanes = normalizeLanes(gpu.software)[0]!;
    for (const { format, width, tokens } of quick ? ROW_CASES.slice(0, 1) : ROW_CASES) {
      const activations = new Uint32Array(tokens * (width / 32) * storedWords(format));
      const { encode } = await prepareNormalize(gpu, {
        ...{ format, lanes, epsilon: 1e-5, activations },
        hidden: new Float32Array(tokens * width).fill(1),
        // Nothing is added: a second run sees what the first saw.
        delta: new Float32Array(tokens * width),
        weight: new Float32Array(width).fill(1),
        rowToken: Uint32Array.from({ length: tokens }, (_, i) => i),
      });
      cases.push({
        parameters: { activations: format, width, tokens, lanes },
        // A square for each element.
        macs: tokens * width,
        bytes: 4 * width + tokens * 12 * width + activations.byteLength,
        encode,
      });
    }
    return cases;
  },
};
