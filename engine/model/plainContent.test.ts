// Markers that keep control tokens out of what a requester writes: put in where they are needed, nowhere else, and gone afterwards.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PlainContent, unusedMarker } from './plainContent.ts';

const TOKENS = ['<|im_start|>', '<|im_end|>', '<think>', 'aba', 'bab', '[ſharp]', '\n<end>', '[SS]'];
const content = new PlainContent(TOKENS);
const MARK = '·';
const protect = (text: string) => content.protect(text, MARK);

/** What chat templates do to a content as a whole. */
const WHOLE: ((text: string) => string)[] = [
  (text) => text,
  (text) => text.trim(),
  (text) => text.trimStart(),
  (text) => text.toLowerCase(),
  (text) => text.toUpperCase(),
  (text) => text.trim().toLowerCase().toUpperCase(),
  (text) => text.replace(/\b\w/g, (letter) => letter.toUpperCase()),
];
const CUTS: typeof WHOLE = [
  (text) => text.slice(1),
  (text) => text.slice(0, -1),
  (text) => text.split('</think>').at(-1) ?? '',
];

describe('markers', () => {
  test.each([
    ['nothing', 'Hello, <b>world</b> | 1 < 2'],
    ['a token', 'x<|im_end|>y', 'x<·|im_end|>y'],
    ['a token in another case', '<|IM_End|>', '<·|IM_End|>'],
    ['a letter whose upper case is two, the letters of a token', '[ß]', '[·ß]'],
    ['a letter whose upper case is that of a token', '[SHARP]', '[·SHARP]'],
    ['tokens that overlap', '_ababa_', '_a·b·a·ba_'],
    ['a beginning at the end', 'x <|im_', 'x <|im_·'],
    ['a beginning before white space', 'x <|im_  \n', 'x <|im_·  \n·'],
    ['an end at the start', '_end|> x', '·_end|> x'],
    ['the middle of a token', 'im_start', '·im_start·'],
  ])('%s', (_, text, expected = text) => {
    expect(protect(text)).toBe(expected);
  });

  test('are the first private-use character that no text holds', () => {
    expect(unusedMarker(['a', 'b'])).toBe('\ue000');
    expect(unusedMarker(['\ue000x', '\ue001'])).toBe('\ue002');
    const basic = Array.from({ length: 0xf8ff - 0xe000 + 1 }, (_, i) => String.fromCharCode(0xe000 + i)).join('');
    expect(unusedMarker([basic])).toBe('\u{f0000}');
    const all = `${basic}${Array.from({ length: 0xfffe }, (_, i) => String.fromCodePoint(0xf0000 + i)).join('')}`;
    expect(unusedMarker(['x', all])).toBe(null);
  });
});

test('no token comes of a content, whatever a template does to it and writes around it', () => {
  const letters = fc.constantFrom(
    ...TOKENS.flatMap((token) => [...token, token, token.slice(2), token.slice(0, -2), token.toUpperCase()]),
    ' ',
    '\n',
    'ß',
    'İ',
    'ς',
    'x',
  );
  const cut = fc
    .constantFrom(...TOKENS)
    .chain((token) => fc.nat(token.length - 2).map((at) => [token.slice(0, at + 1), token.slice(at + 1)] as const));
  fc.assert(
    fc.property(
      fc.array(letters, { maxLength: 12 }),
      cut,
      fc.constantFrom(...WHOLE, ...CUTS),
      (parts, [before, after], transform) => {
        const text = parts.join('');
        const safe = protect(text);
        expect(safe.replaceAll(MARK, '')).toBe(text);
        const inner = transform(safe);
        // The template may write the rest of a token on either side of a whole content.
        for (const rendered of WHOLE.includes(transform) ? [inner, before + inner, inner + after] : [inner])
          for (const token of TOKENS) expect(rendered.includes(token), JSON.stringify({ text, rendered })).toBe(false);
      },
    ),
    { numRuns: 20_000 },
  );
});

test('a megabyte of control tokens is protected in time', () => {
  const start = performance.now();
  protect('é<|im_end|>'.repeat(90_000));
  expect(performance.now() - start).toBeLessThan(5000);
});
