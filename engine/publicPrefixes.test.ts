import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PUBLIC_PREFIX_TOKENS, MAX_PUBLIC_PREFIXES, PublicPrefixes } from './publicPrefixes.ts';

const text = (length: number, own = 0) => Int32Array.from({ length }, (_, i) => i + own);

describe('public prefixes', () => {
  it('are whole blocks of the longest one that a prompt begins with', () => {
    const prefixes = new PublicPrefixes();
    prefixes.declare('system', text(40));
    prefixes.declare('document', text(100));
    expect(prefixes.leadingBlocks(text(39), 39)).toBe(0);
    expect(prefixes.leadingBlocks(text(40), 40)).toBe(2);
    expect(prefixes.leadingBlocks(text(99), 99)).toBe(2);
    expect(prefixes.leadingBlocks(text(500), 500)).toBe(6);
    expect(prefixes.leadingBlocks(text(500), 99)).toBe(2);
    expect(prefixes.leadingBlocks(text(500, 1), 500)).toBe(0);
  });

  it('stay while one id declares them', () => {
    const prefixes = new PublicPrefixes();
    prefixes.declare('one', text(32));
    prefixes.declare('two', text(32));
    expect(prefixes.withdraw('one')).toBe(true);
    expect(prefixes.leadingBlocks(text(64), 64)).toBe(2);
    expect(prefixes.withdraw('two')).toBe(true);
    expect(prefixes.withdraw('two')).toBe(false);
    expect(prefixes.leadingBlocks(text(64), 64)).toBe(0);
    expect([prefixes.size, prefixes.tokens]).toEqual([0, 0]);
  });

  it('are bounded in number and length, and a refusal changes nothing', () => {
    const prefixes = new PublicPrefixes();
    expect(prefixes.declare('none', new Int32Array(0))).toBe('empty');
    expect(prefixes.declare('long', new Int32Array(MAX_PUBLIC_PREFIX_TOKENS + 1))).toBe('too many tokens');
    for (let i = 0; i < 16; i++) expect(prefixes.declare(`d${i}`, text(MAX_PUBLIC_PREFIX_TOKENS, i))).toBeNull();
    expect(prefixes.declare('d16', text(16, 99))).toBe('too many tokens');
    // In place of another there is room, and none is needed for what is known already.
    expect(prefixes.declare('d0', text(16, 99))).toBeNull();
    expect(prefixes.declare('again', text(MAX_PUBLIC_PREFIX_TOKENS, 3))).toBeNull();
    for (let i = prefixes.size; i < MAX_PUBLIC_PREFIXES; i++) prefixes.declare(`s${i}`, text(16, 5000 + i));
    expect(prefixes.declare('more', text(16, 1))).toBe('too many prefixes');
    expect(prefixes.has('more')).toBe(false);
  });

  it('answer as a list of all of them does, through declaring and withdrawing', () => {
    // Texts that begin one another, by design: runs of 0 and 1.
    const tokens = fc.array(fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 20 })), { minLength: 1, maxLength: 4 });
    const ids = (runs: [number, number][]) =>
      Int32Array.from(runs.flatMap(([token, count]) => Array(count).fill(token)));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(6), fc.boolean(), tokens)), tokens, (operations, asked) => {
        const prefixes = new PublicPrefixes();
        const known = new Map<string, Int32Array>();
        const prompts = [asked, ...operations.map(([, , runs]) => runs)].map(ids);
        for (const [id, declares, runs] of operations) {
          if (declares) {
            prefixes.declare(`${id}`, ids(runs));
            known.set(`${id}`, ids(runs));
          } else expect(prefixes.withdraw(`${id}`)).toBe(known.delete(`${id}`));
          for (const prompt of prompts) {
            const begins = [...known.values()].filter((prefix) => prefix.every((token, i) => token === prompt[i]));
            const longest = Math.max(0, ...begins.map(({ length }) => length));
            expect(prefixes.leadingBlocks(prompt, prompt.length)).toBe(Math.floor(longest / 16));
          }
          expect(prefixes.size).toBe(known.size);
        }
      }),
      { numRuns: 300 },
    );
  });
});
