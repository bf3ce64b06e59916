import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StopScanner, StopSet } from './stopStrings.ts';

function scan(stops: string[], pieces: string[]): { text: string; stopped: boolean; pieces: string[] } {
  const scanner = new StopScanner(new StopSet(stops));
  const out = pieces.map((piece) => scanner.push(piece));
  out.push(scanner.flush());
  return { text: out.join(''), stopped: scanner.stopped, pieces: out };
}

/** The definition, by brute force: the earliest end of any stop string; of those that end there, the earliest start. */
function naive(stops: string[], text: string): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (ending.length === 0) continue;
    return { text: text.slice(0, end - Math.max(...ending.map((stop) => stop.length))), stopped: true };
  }
  return { text, stopped: false };
}

// Two letters, so that stop strings overlap themselves and one another all the time.
const word = fc.string({ unit: fc.constantFrom('a', 'b', '€', '\ud83d\ude00'), minLength: 1, maxLength: 5 });
const text = fc.string({ unit: fc.constantFrom('a', 'b', '€', '\ud83d\ude00'), maxLength: 40 });

describe('stop strings', () => {
  it('cut at the same place as the definition, however the text is split', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 5 }), fc.array(text, { maxLength: 6 }), (stops, pieces) => {
        const { text: got, stopped } = scan(stops, pieces);
        expect({ text: got, stopped }).toEqual(naive(stops, pieces.join('')));
      }),
      { numRuns: 3000 },
    );
  });

  it('hold back nothing that can no longer begin a stop string', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), text, (stops, whole) => {
        const scanner = new StopScanner(new StopSet(stops));
        let released = '';
        for (let i = 0; i < whole.length && !scanner.stopped; i++) {
          released += scanner.push(whole[i] ?? '');
          if (scanner.stopped) break;
          const held = whole.slice(released.length, i + 1);
          expect(held === '' || stops.some((stop) => stop.startsWith(held) && stop !== held)).toBe(true);
        }
      }),
    );
  });

  it.each([
    { stops: ['\n\n'], pieces: ['one\n', '\ntwo'], text: 'one', stopped: true },
    { stops: ['END'], pieces: ['ENEN', 'D'], text: 'EN', stopped: true },
    { stops: ['abcd', 'bc'], pieces: ['xab', 'cd'], text: 'xa', stopped: true },
    { stops: ['bc', 'abc'], pieces: ['abc'], text: '', stopped: true },
    { stops: ['abc'], pieces: ['ab'], text: 'ab', stopped: false },
    { stops: [], pieces: ['ab', 'c'], text: 'abc', stopped: false },
  ])('$stops in $pieces', ({ stops, pieces, text, stopped }) => {
    expect(scan(stops, pieces)).toMatchObject({ text, stopped });
  });

  it('stay linear on text made to fall back at every unit', () => {
    const stops = Array.from({ length: 16 }, (_, i) => `${'a'.repeat(240 + i)}b`);
    const scanner = new StopScanner(new StopSet(stops));
    const piece = `${'a'.repeat(239)}c`;
    const started = performance.now();
    for (let i = 0; i < 2000; i++) expect(scanner.push(piece).length).toBe(piece.length);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
