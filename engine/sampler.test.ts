import { describe, expect, it } from 'vitest';
import { seedKey, uniformNoise } from './noise.ts';
import { penalises, TokenCounts } from './penalties.ts';
import type { SamplingParams } from './request.ts';
import { Sampler } from './sampler.ts';

const PLAIN: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: '0',
};

const key = seedKey('99');

/** Logits of a bell shape, [count], with `distinct` different values at most. */
function bellLogits(count: number, stream: number, distinct = Number.POSITIVE_INFINITY): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    let sum = -3;
    for (let part = 0; part < 6; part++) sum += uniformNoise(key, stream, i * 6 + part);
    return Number.isFinite(distinct) ? Math.round((sum * distinct) / 6) / 2 : sum * 4;
  });
}

/** The definition, by sorting: id → probability after temperature, min_p, top_k with ties, top_p. */
function reference(logits: Float32Array, { temperature, minP, topK, topP }: SamplingParams): Map<number, number> {
  const max = Math.max(...logits);
  let left = [...logits].map((logit, id) => ({ id, logit, weight: Math.exp((logit - max) / temperature) }));
  left = left.filter(({ weight }) => weight >= minP && weight > 0);
  left.sort((a, b) => b.logit - a.logit || a.id - b.id);
  if (topK > 0 && topK < left.length) {
    const least = left[topK - 1]!.logit;
    left = left.filter(({ logit }) => logit >= least);
  }
  if (topP < 1) {
    const target = topP * left.reduce((sum, { weight }) => sum + weight, 0);
    let before = 0;
    left = left.filter(({ weight }) => {
      const stays = before < target;
      before += weight;
      return stays;
    });
  }
  const total = left.reduce((sum, { weight }) => sum + weight, 0);
  return new Map(left.map(({ id, weight }) => [id, weight / total]));
}

/** What the sampler draws at `cells` evenly spread draws: id → share. Exact up to a cell per border. */
function shares(logits: Float32Array, params: SamplingParams, cells: number): Map<number, number> {
  const sampler = new Sampler(logits.length);
  const seen = new Map<number, number>();
  for (let cell = 0; cell < cells; cell++) {
    const id = sampler.sample({ logits, params, counts: null, draw: () => (cell + 0.5) / cells })!;
    seen.set(id, (seen.get(id) ?? 0) + 1 / cells);
  }
  return seen;
}

describe('sampler', () => {
  it('takes the lowest id of the best at temperature 0, without a draw', () => {
    const logits = Float32Array.from([1, 5, -2, 5, 5]);
    const draw = () => {
      throw new Error('greedy needs no draw');
    };
    expect(new Sampler(5).sample({ logits, params: { ...PLAIN, temperature: 0 }, counts: null, draw })).toBe(1);
    expect(
      new Sampler(2).sample({
        logits: Float32Array.from([-0, 0]),
        params: { ...PLAIN, temperature: 0 },
        counts: null,
        draw,
      }),
    ).toBe(0);
  });

  it('follows the softmax: 40,000 seeded draws stay within the 99.99 % chi-square bound', () => {
    const logits = bellLogits(32, 1);
    const params = { ...PLAIN, temperature: 1.3 };
    const expected = reference(logits, params);
    const sampler = new Sampler(32);
    const seen = new Array<number>(32).fill(0);
    for (let position = 0; position < 40_000; position++)
      seen[sampler.sample({ logits, params, counts: null, draw: () => uniformNoise(key, 0, position) })!]! += 1;
    let chiSquare = 0;
    let cells = 0;
    let rest = { seen: 0, expected: 0 };
    for (const [id, probability] of expected) {
      const expectedCount = probability * 40_000;
      if (expectedCount < 5) {
        rest = { seen: rest.seen + seen[id]!, expected: rest.expected + expectedCount };
        continue;
      }
      chiSquare += (seen[id]! - expectedCount) ** 2 / expectedCount;
      cells += 1;
    }
    if (rest.expected > 0) chiSquare += (rest.seen - rest.expected) ** 2 / rest.expected;
    expect(cells).toBeGreaterThan(15);
    // At most 31 degrees of freedom: 99.99 % quantile 68.
    expect(chiSquare).toBeLessThan(68);
  });

  const filters: Partial<SamplingParams>[] = [
    { topK: 1 },
    { topK: 7 },
    { topK: 39 },
    { topK: 40 },
    { topK: 1000 },
    { topP: 0.01 },
    { topP: 0.5 },
    { topP: 0.9 },
    { topP: 0.999 },
    { topP: 1e-12 },
    { minP: 0.02 },
    { minP: 0.5 },
    { minP: 1 },
    { topK: 5, topP: 0.7 },
    { topK: 10, minP: 0.1, topP: 0.8, temperature: 0.7 },
    { temperature: 2, topP: 0.95 },
    { temperature: 0.01 },
  ];
  it.each(filters)('keeps what the definition keeps, with its probabilities: %j', (over) => {
    for (const [stream, distinct] of [
      [2, Number.POSITIVE_INFINITY],
      [3, 8],
      [4, 2],
    ] as const) {
      const logits = bellLogits(40, stream, distinct);
      const params = { ...PLAIN, ...over };
      const expected = reference(logits, params);
      const seen = shares(logits, params, 5_000);
      for (const id of seen.keys()) expect(expected.has(id), `id ${id} was filtered out`).toBe(true);
      for (const [id, probability] of expected)
        expect(Math.abs((seen.get(id) ?? 0) - probability)).toBeLessThan(2.1 / 5_000);
    }
  });

  it('top_p keeps ties by id, and only as many as it needs', () => {
    const logits = new Float32Array(10);
    // Ten equal tokens: three of them have 0.3 of the mass, and 0.25 needs three.
    expect([...shares(logits, { ...PLAIN, topP: 0.25 }, 3_000).keys()].sort()).toEqual([0, 1, 2]);
  });

  it('top_k keeps all that tie with the k-th', () => {
    const logits = Float32Array.from([3, 1, 2, 2, 2]);
    expect([...shares(logits, { ...PLAIN, topK: 2 }, 3_000).keys()].sort()).toEqual([0, 2, 3, 4]);
  });

  it('a masked token is never drawn, and a mask of nothing gives null', () => {
    const logits = bellLogits(70, 5);
    const mask = new Uint32Array(3);
    for (const id of [2, 33, 69]) mask[id >>> 5]! |= 1 << (id & 31);
    const sampler = new Sampler(70);
    const seen = new Set<number | null>();
    for (let i = 0; i < 1_000; i++)
      seen.add(
        sampler.sample({ logits, params: { ...PLAIN, temperature: 5 }, counts: null, draw: () => i / 1_000, mask }),
      );
    expect([...seen].sort((a, b) => a! - b!)).toEqual([2, 33, 69]);
    const nothing = new Uint32Array(3);
    expect(sampler.sample({ logits, params: PLAIN, counts: null, draw: () => 0, mask: nothing })).toBeNull();
  });

  it.each([
    [Number.NaN, 0],
    [Number.NaN, 3],
    [Number.POSITIVE_INFINITY, 1],
  ])('refuses a row with %d at %i', (bad, at) => {
    const logits = Float32Array.from([0, 1, 2, 3]);
    logits[at] = bad;
    for (const temperature of [0, 1])
      expect(
        new Sampler(4).sample({ logits, params: { ...PLAIN, temperature }, counts: null, draw: () => 0 }),
      ).toBeNull();
  });

  it('leaves the row as it is, and nothing of one row in the next', () => {
    const logits = bellLogits(40, 6);
    const copy = logits.slice();
    const sampler = new Sampler(40);
    const params = { ...PLAIN, topK: 4, topP: 0.8, logitBias: [[3, 20] as const], frequencyPenalty: 1 };
    const counts = new TokenCounts(Int32Array.of(1, 2));
    const first = sampler.sample({ logits, params, counts, draw: () => 0.37 });
    for (let i = 0; i < 20; i++)
      sampler.sample({
        logits: bellLogits(40, 10 + i),
        params: { ...PLAIN, topP: 0.3 },
        counts: null,
        draw: () => 0.9,
      });
    expect(sampler.sample({ logits, params, counts, draw: () => 0.37 })).toBe(first);
    expect(logits).toEqual(copy);
  });

  it('adds the bias before the penalties, and both before the choice', () => {
    const params: SamplingParams = {
      ...PLAIN,
      temperature: 0,
      logitBias: [
        [0, 4],
        [2, -100],
      ],
      repetitionPenalty: 2,
    };
    const counts = new TokenCounts(Int32Array.of(0));
    const choose = (logits: number[]) =>
      new Sampler(4).sample({ logits: Float32Array.from(logits), params, counts, draw: () => 0 });
    // (2 + 4) / 2 = 3 loses against 3.5; (4 + 4) / 2 = 4 wins. Were the penalty first, 2 / 2 + 4 = 5 would win both times.
    expect(choose([2, 3.5, 50, 0])).toBe(1);
    expect(choose([4, 3.5, 50, 0])).toBe(0);
  });

  it('penalises as the definition says: repetition of prompt and output, frequency and presence of output', () => {
    for (let round = 0; round < 50; round++) {
      const logits = bellLogits(24, 100 + round);
      const at = (i: number) => uniformNoise(key, 200 + round, i);
      const prompt = Int32Array.from({ length: 6 }, (_, i) => Math.floor(at(i) * 24));
      const output = Array.from({ length: 8 }, (_, i) => Math.floor(at(10 + i) * 24));
      const params = {
        ...PLAIN,
        repetitionPenalty: 0.5 + at(30),
        frequencyPenalty: at(31) * 4 - 2,
        presencePenalty: at(32) * 4 - 2,
      };
      const expected = [...logits].map((logit, id) => {
        const seen = prompt.includes(id) || output.includes(id);
        const times = output.filter((other) => other === id).length;
        const repeated = !seen
          ? logit
          : logit > 0
            ? logit / params.repetitionPenalty
            : logit * params.repetitionPenalty;
        return repeated - times * params.frequencyPenalty - (times > 0 ? params.presencePenalty : 0);
      });
      const counts = new TokenCounts(prompt);
      for (const id of output) counts.add(id);
      const penalised = logits.slice();
      counts.penalise(penalised, params);
      expected.forEach((value, id) => {
        expect(penalised[id]).toBeCloseTo(value, 5);
      });
    }
  });

  it('knows when there is nothing to penalise', () => {
    expect(penalises(PLAIN)).toBe(false);
    expect(penalises({ ...PLAIN, presencePenalty: 0.1 })).toBe(true);
    expect(penalises({ ...PLAIN, frequencyPenalty: -0.1 })).toBe(true);
    expect(penalises({ ...PLAIN, repetitionPenalty: 1.1 })).toBe(true);
  });

  it('draws from the whole range: 0 is the first possible token, almost 1 the last', () => {
    const logits = Float32Array.from([Number.NEGATIVE_INFINITY, 1, 2, 0, Number.NEGATIVE_INFINITY]);
    const sampler = new Sampler(5);
    expect(sampler.sample({ logits, params: PLAIN, counts: null, draw: () => 0 })).toBe(1);
    expect(sampler.sample({ logits, params: PLAIN, counts: null, draw: () => 1 - 2 ** -53 })).toBe(3);
  });
});
