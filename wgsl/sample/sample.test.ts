// The kernels against the definition, bit for bit: ids, validity, and everything that a logprob is made of.
import { describe, expect, it } from 'vitest';
import { cutLanes } from '../../engine/llama/sampleStage.ts';
import { randomOf } from '../../test/support/random.ts';
import { runSampling, type SampleCase } from '../../test/support/sampleRig.ts';
import { RESULT, RESULT_WORDS } from './row.ts';
import { DISTANCE_CAP, distanceLimit, distanceOf, distanceScale, WEIGHT_ONE, weightOf } from './weight.ts';

const SEED = Number(process.env.HEARTH_TEST_SEED ?? 1);

/** Logits of a model's shape: a bell with a long upper tail; `distinct` rounds them so that ties abound. */
function rowOf(random: () => number, count: number, spread: number, distinct: boolean): Float32Array {
  return Float32Array.from({ length: count }, () => {
    const bell = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const logit = spread * (bell + (random() < 0.002 ? 6 * random() : 0));
    return distinct ? Math.round(logit * 2) / 2 : logit;
  });
}

function randomCase(random: () => number, vocabSize: number): SampleCase {
  const pick = <T>(...of: T[]): T => of[Math.floor(random() * of.length)]!;
  const id = () => Math.floor(random() * vocabSize);
  const logits = rowOf(random, vocabSize, pick(0.01, 1, 3, 20), random() < 0.3);
  if (random() < 0.1)
    for (let i = 0; i < 5; i++) logits[id()] = pick(Number.NEGATIVE_INFINITY, -1e38, 1e-40, -0, -3e30);
  if (random() < 0.1) logits[id()] = pick(Number.NaN, Number.POSITIVE_INFINITY, 1e35, -Number.NaN);
  const ids = new Set(Array.from({ length: random() < 0.5 ? 0 : Math.ceil(random() * 40) }, id));
  const penalised = random() < 0.5;
  const adjusted = [...ids].map((of) => ({
    id: of,
    count: penalised ? pick(null, 0, 1, 2, 7) : null,
    bias: pick(0, 0, 100, -100, 0.3, -1.7),
  }));
  const draw =
    random() < 0.15
      ? null
      : {
          temperature: pick(0, 0.01, 0.3, 0.7, 1, 1.5, 2, 50),
          topK: pick(0, 0, 1, 2, 20, 50, 1000),
          topP: pick(1, 1, 0.999999, 0.99, 0.95, 0.5, 0.1, 1e-9),
          minP: pick(0, 0, 0, 0.05, 0.5, 1),
          frequencyPenalty: penalised ? pick(0, 0.7, -2) : 0,
          presencePenalty: penalised ? pick(0, 1.1, -2) : 0,
          repetitionPenalty: penalised ? pick(1, 1.3, 0.7) : 1,
          noise: [Math.floor(random() * 2 ** 32), Math.floor(random() * 2 ** 32)] as const,
        };
  return {
    logits,
    draw,
    given: id(),
    top: pick(null, null, 0, 1, 5, 20),
    adjusted: draw ? adjusted : [],
    ...(draw && penalised && random() < 0.5 ? { pending: pick(id(), [...ids][0] ?? id()) } : {}),
  };
}

describe('weights', () => {
  it('fall with the distance and nowhere rise, are 2^-x within 2e-7, and never 0 below the cap', () => {
    expect(weightOf(0)).toBe(WEIGHT_ONE);
    expect(weightOf(DISTANCE_CAP)).toBe(0);
    for (let distance = 1, before = WEIGHT_ONE; distance < DISTANCE_CAP; distance++) {
      const weight = weightOf(distance);
      if (weight > before || weight < 1) throw new Error(`weight ${weight} at distance ${distance}`);
      const exact = WEIGHT_ONE * 2 ** (-distance / 65536);
      if (Math.abs(weight - exact) > 0.5 + exact * 2e-7)
        throw new Error(`weight ${weight} at ${distance}, not ${exact}`);
      before = weight;
    }
  });

  it('a distance is the difference over the temperature in 2^-16 octaves', () => {
    const random = randomOf(SEED);
    for (let i = 0; i < 10_000; i++) {
      const [below, temperature] = [random() * 10, 0.5 + random()];
      const exact = ((below / temperature) * 65536) / Math.LN2;
      const distance = distanceOf(5, Math.fround(5 - below), distanceScale(temperature));
      expect(Math.abs(distance - exact)).toBeLessThan(0.6 + exact * 2e-6);
    }
    expect(distanceOf(5, -1e30, distanceScale(1))).toBe(DISTANCE_CAP);
    expect(distanceOf(5, 4, distanceScale(1e-5))).toBe(DISTANCE_CAP);
  });

  it.each([0.5, 0.1, 1e-3, 1e-9])('min_p %f keeps what has that share of the best, and no more', (minP) => {
    const limit = distanceLimit(minP);
    expect(weightOf(limit) / WEIGHT_ONE).toBeGreaterThanOrEqual(minP * (1 - 2e-7) - 2 ** -31);
    expect(2 ** (-(limit + 1) / 65536)).toBeLessThan(minP);
  });
});

describe('sampling kernels', () => {
  const told = ({ logits: _, ...rest }: SampleCase) => JSON.stringify(rest);
  it.each([
    [20, 60],
    [64, 60],
    [333, 200],
    [4096, 60],
    [4100, 60],
    [49152, 24],
  ])('vocabulary of %i: %i random rows are answered as the definition says', async (vocabSize, count) => {
    const random = randomOf(SEED * 1000 + vocabSize);
    const cases = Array.from({ length: count }, () => randomCase(random, vocabSize));
    const { actual, expected } = await runSampling(cases, vocabSize);
    let drawn = 0;
    for (const [i, test] of cases.entries()) {
      const at = i * RESULT_WORDS;
      const valid = expected[at + RESULT.valid] === 1;
      const name = `HEARTH_TEST_SEED=${SEED}, row ${i}: ${told(test)}`;
      expect(actual[at + RESULT.valid], name).toBe(valid ? 1 : 0);
      if (!valid) continue;
      drawn += 1;
      const end = test.top === null ? RESULT.valid + 1 : RESULT_WORDS;
      expect([...actual.subarray(at, at + end)], name).toEqual([...expected.subarray(at, at + end)]);
    }
    expect(drawn).toBeGreaterThan(count / 2);
  });

  it.each(cutLanes(false))('with %i lanes for top_k and top_p the answers are the same', async (lanes) => {
    const random = randomOf(SEED * 1000 + lanes);
    const cases = Array.from({ length: 16 }, () => randomCase(random, 9000));
    const { actual, expected } = await runSampling(cases, 9000, lanes);
    const ids = (words: Uint32Array): number[] => cases.map((_, i) => words[i * RESULT_WORDS + RESULT.id]!);
    const valid = cases.map((_, i) => expected[i * RESULT_WORDS + RESULT.valid] === 1);
    expect(ids(actual).filter((_, i) => valid[i])).toEqual(ids(expected).filter((_, i) => valid[i]));
  });

  it('what top_p can never keep still counts in its total', async () => {
    // 4,098 tokens of 2.2e-5 each make 0.8 of the total more than the best token alone.
    const logits = new Float32Array(4100).fill(Math.log(2.2e-5));
    logits[7] = 0;
    logits[3000] = Math.log(0.2);
    const off = { minP: 0, topK: 0, frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1 };
    const draw = { ...off, temperature: 1, topP: 0.8, noise: [0xf000_0000, 0] as const };
    const { actual, expected } = await runSampling([{ logits, draw, top: null, adjusted: [] }], 4100);
    expect(expected[RESULT.id]).toBe(3000);
    expect(actual[RESULT.id]).toBe(3000);
  });
});
