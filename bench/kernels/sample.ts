// Sampling over rows of a vocabulary of 49,152, by what a request asks for. Bytes: each logit read once.

import { randomOf } from '../../test/support/random.ts';
import { prepareSampling, type SampleCase } from '../../test/support/sampleRig.ts';
import type { KernelCase, Operation } from './operation.ts';

const VOCAB = 49_152;

const PLAIN = {
  ...{ temperature: 1, topK: 0, topP: 1, minP: 0, frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1 },
  noise: [0x7654_3210, 0x89ab_cdef] as const,
};

const ASKED: Record<string, Pick<SampleCase, 'draw' | 'top'>> = {
  greedy: { draw: { ...PLAIN, temperature: 0 }, top: null },
  'greedy, 20 logprobs': { draw: { ...PLAIN, temperature: 0 }, top: 20 },
  'temperature 1': { draw: PLAIN, top: null },
  'top_k 40': { draw: { ...PLAIN, topK: 40 }, top: null },
  'top_p 0.95': { draw: { ...PLAIN, topP: 0.95 }, top: null },
  'top_k 40, top_p 0.95': { draw: { ...PLAIN, topK: 40, topP: 0.95 }, top: null },
};

/** A bell with a few tokens far above it, as a model's logits are. */
function logits(): Float32Array {
  const random = randomOf(1);
  return Float32Array.from({ length: VOCAB }, () => {
    const bell = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return 3 * bell + (random() < 0.001 ? 10 * random() : 0);
  });
}

export const sample: Operation = {
  name: 'sample',
  async cases(gpu, quick): Promise<KernelCase[]> {
    const cases: KernelCase[] = [];
    const row = logits();
    for (const [asked, wish] of Object.entries(ASKED).slice(0, quick ? 1 : undefined))
      for (const rows of quick ? [1] : [1, 16]) {
        const given = Array.from({ length: rows }, () => ({ logits: row, ...wish, adjusted: [] }));
        const { encode } = await prepareSampling(gpu, given, VOCAB);
        cases.push({ parameters: { asked, vocabulary: VOCAB, rows }, macs: 0, bytes: rows * VOCAB * 4, encode });
      }
    return cases;
  },
};
