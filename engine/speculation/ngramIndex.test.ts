// The index against the definition by brute force, over random texts; and its bounds.
import { describe, expect, it } from 'vitest';
import { randomOf } from '../../test/support/random.ts';
import { MAX_MATCH, MIN_MATCH, NgramIndex, WINDOW } from './ngramIndex.ts';

/** Tokens that the text before `place` and its end have in common. */
function common(text: readonly number[], place: number): number {
  let count = 0;
  while (count < place && text[place - 1 - count] === text[text.length - 1 - count]) count += 1;
  return Math.min(count, MAX_MATCH);
}

/** The longest match with an earlier place, by trying all. */
function longest(text: readonly number[]): number {
  let most = 0;
  for (let place = 1; place < text.length; place++) most = Math.max(most, common(text, place));
  return most < MIN_MATCH ? 0 : most;
}

describe('the index of a text', () => {
  it('finds the longest earlier match of its end, at every token of random texts', () => {
    const random = randomOf(3);
    let found = 0;
    for (let run = 0; run < 40; run++) {
      const letters = 6 + run;
      const text: number[] = [];
      const tokens = new Int32Array(200);
      const index = new NgramIndex(tokens.length);
      for (let i = 0; i < tokens.length; i++) {
        // Now and then the text quotes itself.
        const quoted = i > 20 && random() < 0.9 ? text[i - 17]! : Math.floor(random() * letters);
        tokens[i] = quoted;
        text.push(quoted);
        index.push(tokens);
        expect(index.matched, `run ${run}, token ${i}`).toBe(longest(text));
        if (index.matched === 0) continue;
        expect(common(text, index.source)).toBe(index.matched);
        found += 1;
      }
    }
    expect(found).toBeGreaterThan(1000);
  });

  it('answers nothing before anything has come twice', () => {
    const tokens = Int32Array.from({ length: 300 }, (_, i) => i);
    const index = new NgramIndex(300);
    for (let i = 0; i < 300; i++) {
      index.push(tokens);
      expect(index.matched).toBe(0);
    }
  });

  it('goes no further back than its window', () => {
    const quote = [7, 8, 9, 10];
    const between = (count: number) => Array.from({ length: count }, (_, i) => 100 + i);
    const matchedAfter = (distance: number): number => {
      const tokens = Int32Array.from([...quote, ...between(distance - quote.length), ...quote]);
      const index = new NgramIndex(tokens.length);
      for (let i = 0; i < tokens.length; i++) index.push(tokens);
      return index.matched;
    };
    expect(matchedAfter(WINDOW - 1)).toBe(quote.length);
    expect(matchedAfter(WINDOW)).toBe(0);
  });
});
