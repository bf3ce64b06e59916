// What prompt lookup guesses, and what chance it gives its guesses.
import { describe, expect, it } from 'vitest';
import { NgramDrafter } from './ngramDrafter.ts';
import { MIN_MATCH } from './ngramIndex.ts';

function draftOf(text: readonly number[], promptLength: number, most = 8): { ids: number[]; chances: number[] } {
  const drafter = new NgramDrafter(promptLength, 1000);
  const [ids, chances] = [new Int32Array(most), new Float64Array(most)];
  const count = drafter.draft(Int32Array.from(text), text.length, most, ids, chances);
  return { ids: [...ids.subarray(0, count)], chances: [...chances.subarray(0, count)] };
}

const PROMPT = Array.from({ length: 40 }, (_, i) => 100 + i);

describe('prompt lookup', () => {
  it('guesses what followed where the end of the text occurred before', () => {
    expect(draftOf([...PROMPT, 3, ...PROMPT.slice(0, 20)], 40).ids).toEqual([120, 121, 122, 123, 124, 125, 126, 127]);
  });

  it('guesses nothing after a match of fewer tokens than it takes', () => {
    const end = PROMPT.slice(10, 10 + MIN_MATCH - 1);
    expect(draftOf([...PROMPT, 3, ...end], 40).ids).toEqual([]);
  });

  it('goes on with the period of a text that repeats itself', () => {
    const text = [9, ...Array.from({ length: 21 }, (_, i) => 1 + (i % 3))];
    expect(draftOf(text, 1).ids).toEqual([1, 2, 3, 1, 2, 3, 1, 2]);
  });

  it('takes the latest of equally long matches', () => {
    expect(draftOf([1, 2, 3, 50, 1, 2, 3, 60, 1, 2, 3], 4, 1).ids).toEqual([60]);
  });

  it('trusts long matches more than short ones, and those that held more than those that did not', () => {
    const short = draftOf([...PROMPT, 3, 110, 111, 112], 40).chances[0]!;
    const long = draftOf([...PROMPT, 3, ...PROMPT.slice(0, 20)], 40).chances[0]!;
    expect(long).toBeGreaterThan(short);
    // Beginnings of three that never go on as before.
    const broken = PROMPT.flatMap((id, i) => (i < 35 ? [...PROMPT.slice(i, i + 3), 1000 + id] : []));
    expect(draftOf([...PROMPT, ...broken, ...PROMPT.slice(0, 3)], 40).chances[0] ?? 0).toBeLessThan(short / 2);
  });

  it('learns nothing from what the prompt repeats: it is nobody’s guess', () => {
    const prompt = [...PROMPT, ...PROMPT, ...PROMPT, 3, 110, 111, 112];
    const first = draftOf([...PROMPT, 3, 110, 111, 112], 44).chances;
    expect(draftOf(prompt, prompt.length).chances).toEqual(first);
  });

  it('guesses the same whether it is asked at each token or now and then', () => {
    const text = [...PROMPT, ...PROMPT.slice(5, 30), 7, ...PROMPT.slice(12, 20)];
    const [ids, chances] = [new Int32Array(8), new Float64Array(8)];
    const drafter = new NgramDrafter(40, 1000);
    let count = 0;
    for (let length = 40; length <= text.length; length++)
      count = drafter.draft(Int32Array.from(text), length, 8, ids, chances);
    expect({ ids: [...ids.subarray(0, count)], chances: [...chances.subarray(0, count)] }).toEqual(draftOf(text, 40));
  });
});
