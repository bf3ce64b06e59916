// The rules of the bill by themselves: what each kind of chunk proves, where a choice ends, and that no history of chunks, however hostile,
// releases or bills more than the hold.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Chunk, Said, UpstreamUsage } from './chunk.ts';
import type { ChunkCounts } from './make.ts';
import { Tally, type TallyBounds } from './tally.ts';

const BOUNDS: TallyBounds = { prompts: 1, choices: 1, maxTokens: 10, holdTokens: 100 };

const said = (over: Partial<Said> = {}): Said => ({ choice: 0, text: 'x', logprobs: null, finish: null, ...over });
const chunk = (one: Partial<Said> | null, counts: ChunkCounts = {}, usage: UpstreamUsage | null = null): Chunk => ({
  ...{ said: one ? [said(one)] : [], counts, usage, error: null },
});
const usage = (prompt: number, completion: number, cached = 0): Chunk =>
  chunk(null, {}, { prompt, cached, completion });

function tallied(chunks: readonly Chunk[], bounds: Partial<TallyBounds> = {}): Tally {
  const tally = new Tally({ ...BOUNDS, ...bounds });
  for (const one of chunks) tally.accept(one);
  return tally;
}

const ENTRY = { token: 'x', bytes: null, logprob: 0, top: [] };

describe('output', () => {
  it.each([
    ['ids', chunk({}, { ids: [7, 8, 9], prompt: 5 }), 3, false],
    ['a running total', chunk({}, { total: 4, prompt: 5 }), 4, false],
    ['ids before a total, which may be of more', chunk({}, { ids: [7], total: 4, prompt: 5 }), 1, false],
    ['logprobs', chunk({ logprobs: [ENTRY, ENTRY] }, { prompt: 5 }), 2, false],
    ['text alone: one token, and an estimate', chunk({}, { prompt: 5 }), 1, true],
    ['no text: nothing', chunk({ text: '' }, { prompt: 5 }), 0, false],
    ['the last text: perhaps the rest of a token', chunk({ finish: 'stop' }, { prompt: 5 }), 0, true],
    ['exact output of an unknown prompt is an estimate', chunk({}, { ids: [7] }), 1, true],
  ])('is counted by %s', (_, one, count, estimated) => {
    const tally = tallied([one]);
    expect([tally.choices, tally.estimated]).toEqual([[count], estimated]);
  });

  it('usage at the end corrects it in both directions, and is no estimate', () => {
    for (const completion of [0, 2, 5]) {
      const tally = tallied([chunk({}), chunk({}), chunk({ text: '', finish: 'stop' }), usage(9, completion, 4)]);
      expect(tally.usage).toEqual({ prompt_tokens: 9, cached_tokens: 4, completion_tokens: completion });
      expect(tally.estimated).toBe(false);
    }
  });

  it('of several choices is corrected from the first on, each within its bound', () => {
    const chunks = [0, 1, 2].map((choice) => chunk({ choice }));
    expect(tallied([...chunks, usage(1, 15)], { choices: 3 }).choices).toEqual([10, 4, 1]);
    expect(tallied([...chunks, usage(1, 1)], { choices: 3 }).choices).toEqual([0, 0, 1]);
  });

  it('usage with the last choice is the end where there is one choice alone', () => {
    const last = chunk({ finish: 'stop' }, {}, { prompt: 3, cached: 0, completion: 7 });
    expect(tallied([last]).choices).toEqual([7]);
    expect(tallied([last], { choices: 2 }).estimated).toBe(true);
  });
});

describe('bounds', () => {
  it('a choice past its bound ends there, and the rest of it is not taken', () => {
    const tally = new Tally({ ...BOUNDS, maxTokens: 3 });
    tally.accept(chunk({}, { ids: [1, 2] }));
    expect(tally.accept(chunk({}, { ids: [3, 4] }))).toEqual([
      { choice: 0, position: 2, ids: [], count: 0, text: '', logprobs: null, finish: 'length' },
    ]);
    expect([tally.cut, tally.complete, tally.choices]).toEqual([true, true, [2]]);
    expect(tally.accept(chunk({}, { ids: [5] }))).toEqual([]);
    tally.accept(usage(3, 50));
    expect(tally.choices).toEqual([2]);
  });

  it('a prompt that is told fills the hold', () => {
    const tally = tallied([chunk({}, { ids: [1], prompt: 8 }), chunk({}, { ids: [2] }), chunk({}, { ids: [3] })], {
      holdTokens: 10,
    });
    expect([tally.choices, tally.cut]).toEqual([[2], true]);
  });

  it('no chunks at all pass the hold or a bound', () => {
    const count = fc.oneof(fc.nat(12), fc.constant(Number.MAX_SAFE_INTEGER));
    const optional = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: undefined });
    const any = fc.record({
      said: fc.array(
        fc.record({
          choice: fc.nat(4),
          text: fc.constantFrom('', 'x'),
          logprobs: fc.option(fc.array(fc.constant(ENTRY), { maxLength: 4 })),
          finish: fc.constantFrom(null, null, null, 'stop' as const, 'length' as const),
        }),
        { maxLength: 3 },
      ),
      counts: fc.record({
        prompt: optional(count),
        cached: optional(count),
        total: optional(count),
        ids: optional(fc.array(fc.nat(9), { maxLength: 6 })),
      }),
      usage: fc.option(fc.record({ prompt: count, cached: count, completion: count })),
      error: fc.constant(null),
    });
    const bounds = fc.record({
      choices: fc.integer({ min: 1, max: 4 }),
      maxTokens: fc.integer({ min: 1, max: 12 }),
      extra: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 30 }), bounds, (chunks, { choices, maxTokens, extra }) => {
        const holdTokens = 1 + choices * maxTokens + extra;
        const tally = new Tally({ prompts: 1, choices, maxTokens, holdTokens });
        for (const one of chunks as Chunk[]) {
          tally.accept(one);
          const { prompt_tokens, cached_tokens, completion_tokens } = tally.usage;
          expect(prompt_tokens + completion_tokens).toBeLessThanOrEqual(holdTokens);
          expect(cached_tokens).toBeLessThanOrEqual(prompt_tokens);
          expect(Math.max(...tally.choices)).toBeLessThanOrEqual(maxTokens);
          expect(Math.min(...tally.choices)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
