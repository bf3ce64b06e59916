// How text is cut into words before BPE, by the name that GGUF carries in tokenizer.ggml.pre (llama.cpp, llama-vocab.cpp). A wrong
// cut gives wrong ids without any error, so an unknown name is refused.
//
// One expression per family, each of whose matches begins where the last ended. \s is written out as White_Space, as Oniguruma and
// llama.cpp have it: JavaScript's \s leaves out U+0085 and takes in U+FEFF. The library's own steps aren't used: `Split` and `ByteLevel`
// walk matches and bytes one by one, 2.4 s for a megabyte of digits where this takes 0.1.
import { PreTokenizer } from '@huggingface/tokenizers';
import { writeUtf8 } from './byteLevel.ts';
import { ModelFileError } from './errors.ts';

const SPACE = '\\p{White_Space}';
const NEITHER = `[^${SPACE}\\p{L}\\p{N}]`;
const CASED_SUFFIX = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
/** Space before a word stays with the word: the last of a run is left to what follows. */
const RUNS = `${SPACE}*[\\r\\n]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`;

const GPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?${NEITHER}+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`;
/** GPT-2's cut inside what is left between single digits: a run of space is whole before a digit too. */
const SINGLE_DIGITS = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?${NEITHER}+|${SPACE}+(?![^${SPACE}\\p{N}])|${SPACE}+`;
const modern = (digits: string) =>
  `${CASED_SUFFIX}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?${NEITHER}+[\\r\\n]*|${RUNS}`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const BEFORE_WORD = '[^\\r\\n\\p{L}\\p{N}]?';
const TEKKEN = `${BEFORE_WORD}${UPPER}*${LOWER}+|${BEFORE_WORD}${UPPER}+${LOWER}*|\\p{N}| ?${NEITHER}+[\\r\\n/]*|${RUNS}`;

interface Family {
  names: readonly string[];
  pattern: string;
  wholeWords?: boolean;
  addBos?: boolean;
}

const FAMILIES: readonly Family[] = [
  { names: ['gpt-2', 'phi-2', 'mpt', 'olmo'], pattern: GPT2 },
  { names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell'], pattern: SINGLE_DIGITS },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3', 'falcon3'],
    pattern: modern('\\p{N}{1,3}'),
    wholeWords: true,
    addBos: true,
  },
  { names: ['dbrx', 'smaug-bpe'], pattern: modern('\\p{N}{1,3}') },
  { names: ['qwen2', 'deepseek-r1-qwen', 'stablelm2'], pattern: modern('\\p{N}') },
  { names: ['tekken'], pattern: TEKKEN, wholeWords: true },
];

/** Names that are understood. */
export const PRE_TOKENIZERS: readonly string[] = FAMILIES.flatMap(({ names }) => names);

/** Bytes of a well-formed word's UTF-8. */
function utf8Length(word: string): number {
  let bytes = word.length;
  for (let i = 0; i < word.length; i++) {
    const unit = word.charCodeAt(i);
    // Either half of a pair counts two of its four.
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return bytes;
}

/** The library's pre-tokeniser step for one family. Text must be well-formed. */
export class WordSplit extends PreTokenizer {
  /** A word that is a token as a whole is taken as it is, whatever the merges would make of it. */
  readonly wholeWords: boolean;
  /** Whether prompts begin with the BOS token when the file doesn't say. */
  readonly addBos: boolean;
  readonly #pattern: RegExp;

  constructor({ pattern, wholeWords, addBos }: Family) {
    super();
    this.wholeWords = wholeWords ?? false;
    this.addBos = addBos ?? false;
    this.#pattern = new RegExp(pattern, 'gu');
  }

  /** Cuts text into words; together they are the text. */
  split(text: string): string[] {
    return text.match(this.#pattern) ?? [];
  }

  /** The words in the byte alphabet. */
  override pre_tokenize_text(text: string): string[] {
    const written = writeUtf8(text);
    const words = this.split(text);
    for (let i = 0, start = 0; i < words.length; i++) {
      const end = start + utf8Length(words[i]!);
      words[i] = written.slice(start, end);
      start = end;
    }
    return words;
  }
}

/** The pre-tokeniser of this name. Throws ModelFileError naming the supported ones. */
export function preTokenizerOf(name: string): WordSplit {
  const family = FAMILIES.find(({ names }) => names.includes(name));
  if (family) return new WordSplit(family);
  throw new ModelFileError(
    'unsupported',
    `tokenizer.ggml.pre is ${JSON.stringify(name.slice(0, 80))}; supported are ${PRE_TOKENIZERS.join(', ')}`,
  );
}
