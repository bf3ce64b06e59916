import { describe, expect, it } from 'vitest';
import { cacheOf, request } from '../test/support/engineHarness.ts';
import { type BlockSource, planLoad, recomputeCost } from './reload.ts';
import type { SequenceRequest } from './request.ts';
import { Sequence } from './sequence.ts';

const prompt = Array.from({ length: 200 }, (_, i) => i % 64);

function sequence(computed: number, over: Partial<SequenceRequest> = {}): Sequence {
  const one = new Sequence(request('r', prompt, over), 0);
  one.computed = computed;
  return one;
}

/** Tiers that hold the first `held` blocks at `msPerBlock`, beside a GPU that computes `rate` prompt tokens per millisecond. */
function source(held: number, msPerBlock: number, rate: number): BlockSource {
  return {
    tiers: {
      maxLoadBlocks: 8,
      probe: (_, from, maxTokens) => {
        const blocks = Math.max(0, Math.min(held, Math.floor(maxTokens / 16)) - from);
        return { blocks, loadMs: blocks * msPerBlock };
      },
    },
    prefillTokensPerMs: () => rate,
    publicSealKey: () => null,
  };
}

describe('reload', () => {
  it('loads where that takes less time than computing, or where computing has not been measured', () => {
    // 16 tokens in 8 ms.
    expect(planLoad(sequence(32), source(5, 7, 2), 0, 100)).toMatchObject({ from: 2, count: 3 });
    expect(planLoad(sequence(32), source(5, 9, 2), 0, 100)).toBeNull();
    expect(planLoad(sequence(32), source(5, 9, 0), 0, 100)).toMatchObject({ from: 2, count: 3 });
    expect(planLoad(sequence(80), source(5, 0, 2), 0, 100)).toBeNull();
    expect(planLoad(sequence(0, { cache: null }), source(5, 0, 2), 0, 100)).toBeNull();
  });

  it('never loads beyond what may come from a cache, and a long hit in parts', () => {
    expect(planLoad(sequence(0), source(99, 1, 2), 0, 100)).toMatchObject({ from: 0, count: 8 });
    // 199 of 200 positions may be cached: 12 whole blocks.
    expect(planLoad(sequence(128), source(99, 1, 2), 0, 100)).toMatchObject({ from: 8, count: 4 });
    expect(planLoad(sequence(0, { promptLogprobs: 0 }), source(99, 1, 2), 0, 100)).toBeNull();
  });

  it('counts a partly copied block as what it spares, and gives a load four times its time and a second', () => {
    // 12 positions of the third block are there: 4 are spared in 1 ms of 2.
    expect(planLoad(sequence(44), source(3, 1, 2), 0, 100)).toMatchObject({ from: 2, count: 1, untilMs: 1_104 });
    expect(planLoad(sequence(44), source(3, 3, 2), 0, 100)).toBeNull();
  });

  it('a preempted sequence wastes what nobody else holds, at the price of bringing it back where that is less', () => {
    expect(recomputeCost(sequence(100), 32, null, 0)).toBe(68);
    expect(recomputeCost(sequence(100), 112, null, 0)).toBe(0);
    // Blocks 2 to 5 are in a tier: 64 tokens for 4 · 2 ms at 2 tokens per millisecond.
    expect(recomputeCost(sequence(100), 32, source(6, 2, 2), 0)).toBe(68 - 64 + 16);
    expect(recomputeCost(sequence(100), 32, source(6, 50, 2), 0)).toBe(68);
    expect(recomputeCost(sequence(100), 32, source(6, 2, 0), 0)).toBe(68);
    expect(recomputeCost(sequence(100, { cache: cacheOf('x') }), 32, source(0, 2, 2), 0)).toBe(68);
  });
});
