// How each family cuts: the differences between them, by example. Whole ids are held against other implementations in tokenizer.test.ts.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ModelFileError } from './errors.ts';
import { PRE_TOKENIZERS, preTokenizerOf } from './preTokenizers.ts';

const cut = (name: string, text: string) => preTokenizerOf(name).split(text);

describe('by example', () => {
  test('digits: alone, in threes, or as a run with their space', () => {
    expect(cut('smollm', 'in 2024')).toEqual(['in', ' ', '2', '0', '2', '4']);
    expect(cut('llama-bpe', 'in 2024')).toEqual(['in', ' ', '202', '4']);
    expect(cut('qwen2', 'in 2024')).toEqual(['in', ' ', '2', '0', '2', '4']);
    expect(cut('gpt-2', 'in 2024')).toEqual(['in', ' 2024']);
  });

  test('a run of space leaves its last to a word, not to a single digit', () => {
    expect(cut('gpt-2', 'a   b')).toEqual(['a', '  ', ' b']);
    expect(cut('smollm', 'a   1')).toEqual(['a', '   ', '1']);
    expect(cut('smollm', 'a   !')).toEqual(['a', '  ', ' !']);
    expect(cut('llama-bpe', 'a   1')).toEqual(['a', '  ', ' ', '1']);
  });

  test('contractions: lower case only in GPT-2', () => {
    expect(cut('gpt-2', "I'LL it's")).toEqual(['I', "'", 'LL', ' it', "'s"]);
    expect(cut('llama-bpe', "I'LL it's")).toEqual(['I', "'LL", ' it', "'s"]);
  });

  test('line ends stay with punctuation in the newer families', () => {
    expect(cut('gpt-2', 'a;\n\nb')).toEqual(['a', ';', '\n', '\n', 'b']);
    expect(cut('qwen2', 'a;\n\nb')).toEqual(['a', ';\n\n', 'b']);
    expect(cut('tekken', 'a/\n/b')).toEqual(['a', '/\n/', 'b']);
  });

  test('Tekken cuts at changes of case', () => {
    expect(cut('tekken', 'HTMLParser fooBar')).toEqual(['HTMLParser', ' foo', 'Bar']);
  });

  test('white space is what Unicode says: U+0085 is, U+FEFF is not', () => {
    expect(cut('smollm', 'a\u0085\u0085b')).toEqual(['a', '\u0085', '\u0085', 'b']);
    expect(cut('smollm', ' \ufeff')).toEqual([' \ufeff']);
  });
});

test.each(PRE_TOKENIZERS)('%s: the words together are the text, in time', (name) => {
  const unit = fc.oneof(
    fc.constantFrom(' ', '\n', '\r', '1', 'a', 'A', "'s", '!', '/', '\u0301', 'ǅ'),
    fc.string({ unit: 'binary', maxLength: 1 }),
  );
  fc.assert(
    fc.property(fc.string({ unit }), (text) => {
      const wellFormed = text.toWellFormed();
      expect(cut(name, wellFormed).join('')).toBe(wellFormed);
    }),
  );
  // A pattern that backtracks takes quadratic time, minutes, for one of these.
  for (const text of [
    `${' '.repeat(300_000)}x`,
    'aA'.repeat(150_000),
    ' \r'.repeat(150_000),
    '\u0301'.repeat(300_000),
    `${'!\n'.repeat(150_000)}a`,
  ]) {
    const start = performance.now();
    cut(name, text);
    expect(performance.now() - start).toBeLessThan(5000);
  }
});

test('an unknown name is refused with the names that are known', () => {
  expect(() => preTokenizerOf('chatglm-bpe')).toThrow(ModelFileError);
  expect(() => preTokenizerOf('chatglm-bpe')).toThrow(/"chatglm-bpe"; supported are gpt-2, /);
});
