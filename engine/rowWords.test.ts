// Sampling as a request asks for it, against softmax in double precision: which tokens stay, with which probability, what is refused, what is
// told of logprobs. That the kernels give the same bits as the definition tested here: wgsl/sample/sample.test.ts.
import { describe, expect, it } from 'vitest';
import { GREEDY } from '../test/support/engineHarness.ts';
import { expectLogprob } from '../test/support/exactLogprob.ts';
import { referenceAnswer } from '../test/support/referenceAnswer.ts';
import { adjustmentsOf } from './logitAdjustments.ts';
import { LOGPROB_FLOOR } from './logprobs.ts';
import type { RowAnswer, RowWish } from './modelRunner.ts';
import { positionNoise, seedKey } from './noise.ts';
import type { SamplingParams } from './request.ts';

const PLAIN: SamplingParams = { ...GREEDY, temperature: 1 };

const key = seedKey('99');
const uniform = (stream: number, i: number): number => positionNoise(key, stream, i)[0] / 2 ** 32;

/** Logits of a bell shape, [count], with `distinct` different values at most. */
function bellLogits(count: number, stream: number, distinct = Number.POSITIVE_INFINITY): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    let sum = -3;
    for (let part = 0; part < 6; part++) sum += uniform(stream, i * 6 + part);
    return Number.isFinite(distinct) ? Math.round((sum * distinct) / 6) / 2 : sum * 4;
  });
}

/** Draws with a number in [0, 1). */
function draw(
  logits: Float32Array,
  sampling: SamplingParams,
  at: number,
  over: Partial<RowWish & { kind: 'draw' }> = {},
): RowAnswer {
  const adjustments = adjustmentsOf(sampling, new Int32Array(0));
  const wish = { sampling, adjustments, logprobs: null, slot: 0, pending: false, ...over };
  const noise = [Math.floor(at * 2 ** 32), 0] as const;
  return referenceAnswer(logits, { kind: 'draw', noise, ...wish }, new Uint32Array(1));
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

/** What is drawn at `cells` evenly spread numbers: id → share. Exact up to a cell per border. */
function shares(logits: Float32Array, params: SamplingParams, cells: number): Map<number, number> {
  const seen = new Map<number, number>();
  for (let cell = 0; cell < cells; cell++) {
    const id = draw(logits, params, (cell + 0.5) / cells).id!;
    seen.set(id, (seen.get(id) ?? 0) + 1 / cells);
  }
  return seen;
}

describe('sampling', () => {
  it('takes the lowest id of the best at temperature 0', () => {
    const greedy = { ...PLAIN, temperature: 0 };
    expect(draw(Float32Array.from([1, 5, -2, 5, 5]), greedy, 0.9).id).toBe(1);
    expect(draw(Float32Array.from([-0, 0]), greedy, 0.9).id).toBe(0);
  });

  it('follows the softmax: 40,000 seeded draws stay within the 99.99 % chi-square bound', () => {
    const logits = bellLogits(32, 1);
    const params = { ...PLAIN, temperature: 1.3 };
    const expected = reference(logits, params);
    const seen = new Array<number>(32).fill(0);
    for (let position = 0; position < 40_000; position++)
      seen[draw(logits, params, 0, { noise: positionNoise(key, 0, position) }).id!]! += 1;
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
    // Ten equal tokens: three of them have 0.3 of the mass, and 0.25 needs three.
    expect([...shares(new Float32Array(10), { ...PLAIN, topP: 0.25 }, 3_000).keys()].sort()).toEqual([0, 1, 2]);
  });

  it('top_k keeps all that tie with the k-th', () => {
    const logits = Float32Array.from([3, 1, 2, 2, 2]);
    expect([...shares(logits, { ...PLAIN, topK: 2 }, 3_000).keys()].sort()).toEqual([0, 2, 3, 4]);
  });

  it.each([
    [Number.NaN, 0],
    [Number.NaN, 3],
    [Number.POSITIVE_INFINITY, 1],
  ])('refuses a row with %d at %i', (bad, at) => {
    const logits = Float32Array.from([0, 1, 2, 3]);
    logits[at] = bad;
    for (const temperature of [0, 1]) expect(draw(logits, { ...PLAIN, temperature }, 0).id).toBeNull();
    expect(referenceAnswer(logits, { kind: 'score', id: 2, alternatives: 0 }, new Uint32Array(0)).logprob).toBeNull();
  });

  it('refuses a row that leaves nothing possible', () => {
    expect(draw(new Float32Array(4).fill(Number.NEGATIVE_INFINITY), PLAIN, 0).id).toBeNull();
  });

  it('draws from the whole range: 0 is the first possible token, almost 1 the last', () => {
    const logits = Float32Array.from([Number.NEGATIVE_INFINITY, 1, 2, 0, Number.NEGATIVE_INFINITY]);
    expect(draw(logits, PLAIN, 0).id).toBe(1);
    expect(draw(logits, PLAIN, 1 - 2 ** -32).id).toBe(3);
  });

  it('adds the bias before the penalties, and both before the choice', () => {
    const params: SamplingParams = {
      ...PLAIN,
      temperature: 0,
      logitBias: [
        [0, 3],
        [2, -100],
        [0, 1],
      ],
      repetitionPenalty: 2,
    };
    const choose = (logits: number[]) =>
      draw(Float32Array.from(logits), params, 0, { adjustments: adjustmentsOf(params, Int32Array.of(0)) }).id;
    // (2 + 4) / 2 = 3 loses against 3.5; (4 + 4) / 2 = 4 wins. Were the penalty first, 2 / 2 + 4 = 5 would win both times.
    expect(choose([2, 3.5, 50, 0])).toBe(1);
    expect(choose([4, 3.5, 50, 0])).toBe(0);
  });

  it('penalises as the definition says: repetition of prompt and output, frequency and presence of output', () => {
    for (let round = 0; round < 50; round++) {
      const logits = bellLogits(24, 100 + round);
      const at = (i: number) => uniform(200 + round, i);
      const prompt = Int32Array.from({ length: 6 }, (_, i) => Math.floor(at(i) * 24));
      const output = Array.from({ length: 8 }, (_, i) => Math.floor(at(10 + i) * 24));
      const params = {
        ...PLAIN,
        temperature: 1.5,
        repetitionPenalty: 0.5 + at(30),
        frequencyPenalty: at(31) * 4 - 2,
        presencePenalty: at(32) * 4 - 2,
      };
      const penalised = logits.map((logit, id) => {
        const seen = prompt.includes(id) || output.includes(id);
        const times = output.filter((other) => other === id).length;
        const { repetitionPenalty } = params;
        const repeated = !seen ? logit : logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
        return repeated - times * params.frequencyPenalty - (times > 0 ? params.presencePenalty : 0);
      });
      const adjustments = adjustmentsOf(params, prompt)!;
      for (const id of output.slice(0, 7)) adjustments.add(id);
      // The last token is known to the device alone.
      const slots = Uint32Array.of(0, output[7]!);
      for (let cell = 0; cell < 40; cell++) {
        const noise = [Math.floor(((cell + 0.5) / 40) * 2 ** 32), 0] as const;
        const wish = {
          kind: 'draw' as const,
          sampling: params,
          noise,
          adjustments,
          logprobs: 2,
          slot: 1,
          pending: true,
        };
        const { id, logprob } = referenceAnswer(logits, wish, slots.slice());
        expect(id).toBe(draw(penalised, { ...PLAIN, temperature: 1.5 }, (cell + 0.5) / 40).id);
        expectLogprob(logprob!, logits, id!, 2);
      }
    }
  });

  it('nothing is adjusted where there is neither bias nor penalty', () => {
    const prompt = Int32Array.of(1, 2);
    expect(adjustmentsOf(PLAIN, prompt)).toBeNull();
    expect(adjustmentsOf({ ...PLAIN, presencePenalty: 0.1 }, prompt)?.size).toBe(0);
    expect(adjustmentsOf({ ...PLAIN, frequencyPenalty: -0.1 }, prompt)?.size).toBe(0);
    expect(adjustmentsOf({ ...PLAIN, repetitionPenalty: 1.1 }, prompt)?.size).toBe(2);
    expect(adjustmentsOf({ ...PLAIN, logitBias: [[7, 1]] }, prompt)?.size).toBe(1);
  });
});

describe('logprobs', () => {
  const score = (logits: Float32Array, id: number, alternatives: number) =>
    referenceAnswer(logits, { kind: 'score', id, alternatives }, new Uint32Array(0)).logprob;

  it('are the log-softmax of the raw logits, with the best alternatives in order and ties to the lower id', () => {
    for (let stream = 0; stream < 20; stream++) {
      const levels = stream % 2 ? 30 : 1e6;
      const logits = Float32Array.from(
        { length: 500 },
        (_, i) => Math.floor(uniform(stream, i) * levels) / (levels / 24) - 12,
      );
      const id = (stream * 37) % 500;
      expectLogprob(score(logits, id, 20)!, logits, id, 20);
    }
  });

  it('tell no alternatives when none are wanted, and never more than there are', () => {
    const logits = Float32Array.from([1, 2, 3]);
    expect(score(logits, 0, 0)!.top).toEqual([]);
    expect(score(logits, 0, 20)!.top.map(([id]) => id)).toEqual([2, 1, 0]);
  });

  it('floor what is impossible, and stay exact with large logits', () => {
    const logits = Float32Array.from([Number.NEGATIVE_INFINITY, 1e30, 1e30]);
    expect(score(logits, 0, 1)!.logprob).toBe(LOGPROB_FLOOR);
    expect(score(logits, 1, 1)!.logprob).toBeCloseTo(Math.log(0.5), 12);
  });
});
