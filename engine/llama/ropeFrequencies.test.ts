// Against the formula of Llama 3.1's own rope scaling, from factors as the converter to GGUF writes them; and against a position that is
// divided, for linear scaling.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type TinyModelOptions, writeTinyModel } from '../../test/support/tinyModel.ts';
import { openModelFile } from '../model/modelFile.ts';
import { ropeFrequencies, scaledFrequencies } from './ropeFrequencies.ts';

/** rope_scaling of Llama 3.1 (8B) and 3.2 (1B): config.json of the models. */
const MODELS = [
  { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192, ropeTheta: 500_000, ropeDim: 128 },
  { factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192, ropeTheta: 500_000, ropeDim: 64 },
];
type Llama3 = (typeof MODELS)[number];

/** What convert_hf_to_gguf.py puts into rope_freqs.weight. */
function factorsOf({
  factor,
  lowFreqFactor,
  highFreqFactor,
  originalContext,
  ropeTheta,
  ropeDim,
}: Llama3): Float32Array {
  return Float32Array.from({ length: ropeDim / 2 }, (_, pair) => {
    const wavelength = (2 * Math.PI) / ropeTheta ** ((-2 * pair) / ropeDim);
    if (wavelength < originalContext / highFreqFactor) return 1;
    if (wavelength > originalContext / lowFreqFactor) return factor;
    const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** inv_freq as transformers' `_compute_llama3_parameters` has it: no factors, but three bands of frequencies. */
function llama3Frequency(model: Llama3, pair: number): number {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = model;
  const plain = 1 / model.ropeTheta ** ((2 * pair) / model.ropeDim);
  const turns = (originalContext * plain) / (2 * Math.PI);
  if (turns < lowFreqFactor) return plain / factor;
  if (turns > highFreqFactor) return plain;
  const share = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - share) * (plain / factor) + share * plain;
}

test.each(MODELS)('Llama 3 with factor $factor: the frequencies of its own formula', (model) => {
  const frequencies = scaledFrequencies({ ...model, ropeScale: 1 }, factorsOf(model));
  const bands = new Set<string>();
  frequencies.forEach((frequency, pair) => {
    const expected = llama3Frequency(model, pair);
    expect(Math.abs(frequency / expected - 1), `pair ${pair}`).toBeLessThan(1e-6);
    const plain = model.ropeTheta ** ((-2 * pair) / model.ropeDim);
    bands.add(expected === plain ? 'kept' : expected * model.factor === plain ? 'divided' : 'between');
  });
  expect(bands.size, 'all three bands are there').toBe(3);
});

test('linear scaling: position p turns as far as p / scale does without', () => {
  const shape = { ropeTheta: 10_000, ropeDim: 32 };
  const scaled = scaledFrequencies({ ...shape, ropeScale: 4 }, null);
  const plain = scaledFrequencies({ ...shape, ropeScale: 1 }, null);
  scaled.forEach((frequency, pair) => {
    expect(1000 * frequency).toBeCloseTo(250 * (plain[pair] as number), 12);
  });
});

const OPTIONS: TinyModelOptions = {
  ...{ layers: 1, hidden: 32, feedForward: 32, heads: 2, kvHeads: 1, headDim: 16, vocabSize: 300, contextLength: 64 },
  ...{ type: 'F16', tied: true, seed: 1 },
};
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-rope-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function frequenciesOf(options: Partial<TinyModelOptions>): Promise<Float64Array> {
  const path = join(folder, 'model.gguf');
  await writeTinyModel(path, { ...OPTIONS, ...options });
  const { file } = await openModelFile(path);
  try {
    return await ropeFrequencies(file);
  } finally {
    await file.close();
  }
}

test('a file without scaling, with a scale, with factors, with both', async () => {
  const factors = [1, 1, 1, 2, 3, 4, 8, 8];
  const plain = await frequenciesOf({});
  expect(plain[0]).toBe(1);
  expect(await frequenciesOf({ ropeScale: 2 })).toEqual(plain.map((f) => f / 2));
  expect(await frequenciesOf({ ropeFactors: factors })).toEqual(plain.map((f, pair) => f / factors[pair]!));
  expect(await frequenciesOf({ ropeScale: 2, ropeFactors: factors })).toEqual(
    plain.map((f, pair) => f / 2 / factors[pair]!),
  );
});

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('a factor of %d is refused', async (factor) => {
  await expect(frequenciesOf({ ropeFactors: [1, 1, 1, factor, 1, 1, 1, 1] })).rejects.toMatchObject({
    code: 'malformed',
    message: expect.stringMatching(/"rope_freqs.weight" has .* at 3; positive/),
  });
});
