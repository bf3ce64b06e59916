// The tokeniser against llama.cpp's ids (a golden table), against @huggingface/tokenizers (any text), and against the clock.
import { readFile } from 'node:fs/promises';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { testModelPath } from '../../test/support/testModel.ts';
import { tinyVocabulary } from '../../test/support/tinyVocabulary.ts';
import { characterOfByte } from './byteLevel.ts';
import type { GgufMetadata, GgufScalar, GgufValue } from './gguf.ts';
import { readModelHeader } from './modelFile.ts';
import { readTokenizer, type Tokenizer } from './tokenizer.ts';
import { stringList } from './vocabulary.ts';

interface GoldenEntry {
  text: string;
  /** Control tokens as plain text, and parsed where that differs. */
  plain: number[];
  raw?: number[];
  /** Holds bytes that the vocabulary can't write. */
  lossy?: boolean;
}

let golden: GoldenEntry[];
let metadata: GgufMetadata;
let tokenizer: Tokenizer;

beforeAll(async () => {
  golden = JSON.parse(await readFile(new URL('../../test/golden/tokenizer.json', import.meta.url), 'utf8')).entries;
  ({ metadata } = await readModelHeader(await testModelPath()));
  tokenizer = readTokenizer(metadata);
});

const plain = (text: string) => tokenizer.encode(text, { parseSpecial: false });

/** Texts of every script, with digits, white space and punctuation mixed in, and lone surrogates. */
const anyText = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({
    unit: fc.constantFrom(
      'a',
      'Z',
      ' ',
      '  ',
      '\n',
      '\r',
      '\t',
      '1',
      '9',
      '!',
      "'s",
      '·',
      'é',
      '你',
      '👍🏽',
      '\u0085',
      '\ufeff',
      '\ud800',
    ),
  }),
);

describe('the golden table', () => {
  test('has at least 200 different texts, all as llama.cpp encodes them', () => {
    expect(new Set(golden.map(({ text }) => text)).size).toBeGreaterThanOrEqual(200);
    for (const { text, plain: ids, raw } of golden) {
      expect(plain(text), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.encode(text, { parseSpecial: true }), JSON.stringify(text)).toEqual(raw ?? ids);
    }
  });

  test('decodes back, but for bytes that the vocabulary lacks', () => {
    for (const { text, plain: ids, raw, lossy } of golden) {
      if (lossy) expect(tokenizer.decode(ids)).not.toBe(text);
      else expect(tokenizer.decode(ids)).toBe(text.toWellFormed());
      if (raw) expect(tokenizer.decode(raw)).toBe(text);
    }
  });
});

describe('against @huggingface/tokenizers', () => {
  const oracle = (source: GgufMetadata, splits: string[]) =>
    new HuggingFaceTokenizer(
      {
        ...{ added_tokens: [], normalizer: null, post_processor: null, decoder: { type: 'ByteLevel' } },
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            ...splits.map((Regex) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })),
            { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
          ],
        },
        model: {
          type: 'BPE',
          vocab: Object.fromEntries(stringList(source, 'tokenizer.ggml.tokens').map((token, id) => [token, id])),
          merges: stringList(source, 'tokenizer.ggml.merges'),
          ignore_merges: source.get('tokenizer.ggml.pre') === 'llama-bpe',
        },
      },
      {},
    );
  const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  const modern = (digits: string) =>
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

  test.each([
    ['smollm', ['\\p{N}', gpt2]],
    ['gpt-2', [gpt2]],
    ['llama-bpe', [modern('\\p{N}{1,3}')]],
    ['qwen2', [modern('\\p{N}')]],
  ])('%s: the same ids for any text', (name, splits) => {
    const source = new Map([...metadata, ['tokenizer.ggml.pre', name], ['tokenizer.ggml.add_bos_token', false]]);
    const ours = readTokenizer(source);
    const theirs = oracle(source, splits);
    fc.assert(
      fc.property(anyText, (text) => {
        const wellFormed = text.toWellFormed();
        expect(ours.encode(text, { parseSpecial: false })).toEqual(
          wellFormed === '' ? [] : theirs.encode(wellFormed).ids,
        );
      }),
      { numRuns: 1000 },
    );
  });
});

describe('for any text', () => {
  test('decoding what was encoded gives it back, and no control token comes of plain text', () => {
    const missing = new Set(
      [...Array(256).keys()].filter((byte) => !tokenizer.vocabulary.ids.has(characterOfByte(byte))),
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(anyText, fc.constantFrom(...tokenizer.vocabulary.control.keys()))), (parts) => {
        const text = parts.join('').toWellFormed();
        fc.pre(![...Buffer.from(text)].some((byte) => missing.has(byte)));
        const ids = plain(text);
        expect(tokenizer.decode(ids)).toBe(text);
        expect(ids.filter((id) => tokenizer.isControl(id))).toEqual([]);
        expect(Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id))).toString()).toBe(text);
        expect(ids.length).toBeLessThanOrEqual(Buffer.byteLength(text));
      }),
      { numRuns: 500 },
    );
  });

  test('decoding any ids never throws, and leaves control tokens out when told to', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.vocabulary.size - 1)), (ids) => {
        expect(typeof tokenizer.decode(ids)).toBe('string');
        expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(
          tokenizer.decode(ids.filter((id) => !tokenizer.isControl(id))),
        );
      }),
    );
    expect(tokenizer.decode([1, 9906, 2], { skipSpecial: false })).toBe(
      `<|im_start|>${tokenizer.decode([9906])}<|im_end|>`,
    );
  });
});

describe('time is bounded', () => {
  const elapsed = (text: string) => {
    const start = performance.now();
    plain(text);
    return performance.now() - start;
  };

  test('10 000 characters of prose take well under 100 ms', () => {
    const prose = 'The quick brown fox, number 42, jumped over déjà vu: 你好, function f(x) { return x + 1; }\n'.repeat(
      120,
    );
    expect(elapsed(prose.slice(0, 10_000))).toBeLessThan(100);
  });

  // A quadratic merge takes minutes for these; n log n about 0.3 s. The limit leaves room for a busy machine.
  test.each([
    ['a', 'a'],
    ['ab', 'ab'],
    [' ', ' '],
    ['\\n', '\n'],
    ['9', '9'],
    ['!', '!'],
    ['你', '你'],
    ['beginnings of control tokens', '<|im_en'],
    ["'", "'"],
  ])('a million characters of %s', (_, unit) => {
    expect(elapsed(unit.repeat(1_000_000 / unit.length))).toBeLessThan(10_000);
  });

  test('longer words cost in proportion: 16 times the letters, under 64 times the time', () => {
    const letters = (count: number) =>
      Array.from({ length: count }, (_, i) => 'etaoinshr'[Math.imul(i, 2654435761) >>> 29]).join('');
    elapsed(letters(60_000));
    const once = Math.min(...[1, 2, 3].map(() => elapsed(letters(60_000))));
    expect(elapsed(letters(960_000))).toBeLessThan(64 * once);
  });
});

describe('what the metadata say', () => {
  const written = (key: string) => new Map(tinyVocabulary(320)).get(key)?.[1] as GgufScalar[];
  const withoutQ = written('tokenizer.ggml.tokens').map((token) => (token === 'q' ? '<q>' : token));
  const twice = written('tokenizer.ggml.tokens').map((token, id) => (id === 319 ? '<|im_end|>' : token));
  const controlFromMerge = {
    'tokenizer.ggml.tokens': written('tokenizer.ggml.tokens').map((token, id) =>
      id === 2 ? 'et' : token === 'et' ? '<|im_end|>' : token,
    ),
    'tokenizer.ggml.merges': ['e t'],
  };
  const tiny = (changes: Record<string, GgufValue | undefined> = {}) => {
    const entries = tinyVocabulary(320).map(([key, [, value]]) => [key, value] as const);
    const merged = new Map<string, GgufValue>(entries);
    for (const [key, value] of Object.entries(changes))
      if (value === undefined) merged.delete(key);
      else merged.set(key, value);
    return readTokenizer(merged);
  };

  test('SmolLM2 ends at <|im_end|> and <|endoftext|>, and has no BOS at the start', () => {
    expect([...tokenizer.vocabulary.eosIds].sort()).toEqual([0, 2]);
    expect(tokenizer.encode('a', { parseSpecial: true })).toEqual(plain('a'));
  });

  test('a model that wants a BOS token gets one, once, in raw prompts only', () => {
    const bos = tiny({ 'tokenizer.ggml.add_bos_token': true });
    expect(bos.encode('a', { parseSpecial: true })[0]).toBe(1);
    expect(bos.encode('<|im_start|>a', { parseSpecial: true })).toEqual(bos.encode('a', { parseSpecial: true }));
    expect(bos.encode('a', { parseSpecial: false })).not.toContain(1);
    expect(bos.encode('', { parseSpecial: true })).toEqual([1]);
  });

  test('llama-bpe has a BOS token unless the file says otherwise', () => {
    expect(tiny({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.add_bos_token': undefined }).addsBos).toBe(true);
    expect(tiny({ 'tokenizer.ggml.pre': 'llama-bpe' }).addsBos).toBe(false);
    expect(tiny({ 'tokenizer.ggml.add_bos_token': undefined }).addsBos).toBe(false);
  });

  test('user-defined tokens are found in plain text too, control tokens are not', () => {
    const types = written('tokenizer.ggml.token_type');
    const user = tiny({ 'tokenizer.ggml.token_type': types.map((type, id) => (id === 2 ? 4 : type)) });
    expect(user.encode('a<|im_end|>', { parseSpecial: false }).at(-1)).toBe(2);
    expect(user.encode('a<|im_start|>', { parseSpecial: false })).not.toContain(1);
    expect(user.isControl(2)).toBe(false);
  });

  test('tokens outside the byte alphabet stand for their own text, empty ones for nothing', () => {
    const extra = ['<｜begin▁of▁text｜>', '你好', ''];
    const [begin, hello, empty] = [320, 321, 322];
    const other = tiny({
      'tokenizer.ggml.tokens': [...written('tokenizer.ggml.tokens'), ...extra],
      'tokenizer.ggml.token_type': [...written('tokenizer.ggml.token_type'), 3, 5, 1],
    });
    const ids = other.encode('<｜begin▁of▁text｜>é', { parseSpecial: true });
    const [first, second] = ids.slice(1) as [number, number];
    expect(ids).toEqual([begin, first, second]);
    expect(other.encode('你好', { parseSpecial: true })).not.toContain(hello);
    expect(other.decode([begin, hello, first, empty, second])).toBe('<｜begin▁of▁text｜>你好é');
    expect([begin, hello, empty].map((id) => Buffer.from(other.tokenBytes(id)).toString())).toEqual(extra);
    expect(other.decode([empty])).toBe('');
    expect(other.decode([])).toBe('');
  });

  test('a vocabulary of 30 000 special tokens costs no more time', () => {
    const fillers = Array.from({ length: 30_000 }, (_, i) => `<|im_extra_${i}|>`);
    const types = written('tokenizer.ggml.token_type');
    const many = tiny({
      'tokenizer.ggml.tokens': [...written('tokenizer.ggml.tokens'), ...fillers],
      'tokenizer.ggml.token_type': [...types, ...fillers.map((_, i) => (i % 2 ? 3 : 4))],
    });
    const start = performance.now();
    const raw = many.encode(`${'<|im_extra_'.repeat(40_000)}${fillers.join('')}`, { parseSpecial: true });
    expect(raw.filter((id) => id >= 320)).toHaveLength(30_000);
    expect(many.decode(raw, { skipSpecial: true })).toContain('<|im_extra_29998|>');
    expect(many.decode(raw, { skipSpecial: true })).not.toContain('<|im_extra_29999|>');
    // A look through all special tokens per token takes far longer.
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  test.each([
    ['another model', { 'tokenizer.ggml.model': 'llama' }, /tokenizer.ggml.model is "llama"; "gpt2"/],
    [
      'an unknown pre-tokeniser',
      { 'tokenizer.ggml.pre': 'kimi-k9' },
      /"kimi-k9"; supported are gpt-2, .*smollm.*llama-bpe.*qwen2/,
    ],
    ['no pre-tokeniser', { 'tokenizer.ggml.pre': undefined }, /tokenizer.ggml.pre is missing/],
    ['no merges', { 'tokenizer.ggml.merges': undefined }, /merges is missing/],
    ['a merge of unknown parts', { 'tokenizer.ggml.merges': ['e t', 'q zz'] }, /merges\[1\] is "q zz"/],
    ['a merge that makes a control token', controlFromMerge, /merges\[0\] is "e t"/],
    ['a token written twice', { 'tokenizer.ggml.tokens': twice }, /tokens\[319\] is "<\|im_end\|>", as is \[2\]/],
    ['a merge of one part', { 'tokenizer.ggml.merges': ['et'] }, /merges\[0\] is "et"/],
    ['an end beyond the vocabulary', { 'tokenizer.ggml.eos_token_id': 320 }, /eos_token_id is 320; an id below 320/],
    ['types for other tokens', { 'tokenizer.ggml.token_type': [1, 2] }, /has 2 entries for 320 tokens/],
    ['numbers for tokens', { 'tokenizer.ggml.merges': [1] }, /merges\[0\] is a number/],
    ['no token for a letter', { 'tokenizer.ggml.tokens': withoutQ }, /no token for the character "q"/],
  ])('%s is refused by name', (_, changes, message) => {
    expect(() => tiny(changes)).toThrow(message);
  });
});
