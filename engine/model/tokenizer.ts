// Text to token ids and back: special tokens are found first, what lies between them is cut into words, each word goes through BPE.
// The time grows as n log n of the text, whatever it holds; nothing is remembered from one text to the next.
import { invariant } from '../invariant.ts';
import { Bpe } from './bpe.ts';
import { ModelFileError } from './errors.ts';
import type { GgufMetadata } from './gguf.ts';
import { type PreTokenizer, preTokenizerOf } from './preTokenizers.ts';
import { SpecialTokens } from './specialTokens.ts';
import { readVocabulary, stringList, type Vocabulary } from './vocabulary.ts';

/** A UTF-16 code unit takes at most this many UTF-8 bytes. */
const UTF8_PER_UNIT = 3;

export class Tokenizer {
  readonly vocabulary: Vocabulary;
  /** Prompts begin with bosId. */
  readonly addsBos: boolean;
  readonly #preTokenizer: PreTokenizer;
  readonly #bpe: Bpe;
  readonly #userDefined: SpecialTokens;
  readonly #special: SpecialTokens;
  readonly #encoder = new TextEncoder();
  #word = new Uint8Array(1024);

  constructor(vocabulary: Vocabulary, preTokenizer: PreTokenizer, merges: readonly string[]) {
    this.vocabulary = vocabulary;
    this.#preTokenizer = preTokenizer;
    this.#bpe = new Bpe(vocabulary.normal, merges, vocabulary.size);
    this.#userDefined = new SpecialTokens(vocabulary.userDefined);
    this.#special = new SpecialTokens([...vocabulary.userDefined, ...vocabulary.control]);
    this.addsBos = vocabulary.bosId !== null && (vocabulary.addBos ?? preTokenizer.addBos);
  }

  /**
   * `parseSpecial: true` is a whole raw prompt: control tokens written out become control tokens, and it begins with the BOS token
   * once if the model wants that. Otherwise plain text, which can't make a control token.
   */
  encode(text: string, { parseSpecial }: { parseSpecial: boolean }): number[] {
    const ids: number[] = [];
    const wellFormed = text.toWellFormed();
    if (!parseSpecial) {
      this.encodePlain(wellFormed, ids);
      return ids;
    }
    this.#special.split(
      wellFormed,
      (plain) => this.#encodeWords(plain, ids),
      (id) => ids.push(id),
    );
    return this.withBos(ids);
  }

  /** Appends the ids of plain text: no control token comes of it. */
  encodePlain(text: string, out: number[]): void {
    this.#userDefined.split(
      text,
      (plain) => this.#encodeWords(plain, out),
      (id) => out.push(id),
    );
  }

  /** The same ids, beginning with the BOS token if the model wants that and they don't yet. */
  withBos(ids: number[]): number[] {
    const { bosId } = this.vocabulary;
    return this.addsBos && bosId !== null && ids[0] !== bosId ? [bosId, ...ids] : ids;
  }

  /** Invalid UTF-8 becomes U+FFFD. `ids` must be below the vocabulary's size. */
  decode(ids: readonly number[], options: { skipSpecial?: boolean } = {}): string {
    const kept = options.skipSpecial ? ids.filter((id) => !this.isControl(id)) : ids;
    const pieces = kept.map((id) => this.#latin1(id));
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.from(pieces.join(''), 'latin1'));
  }

  tokenBytes(id: number): Uint8Array {
    return new Uint8Array(Buffer.from(this.#latin1(id), 'latin1'));
  }

  isControl(id: number): boolean {
    return this.vocabulary.controlIds.has(id);
  }

  #latin1(id: number): string {
    const bytes = this.vocabulary.bytes[id];
    invariant(bytes !== undefined, 'a token id is in the vocabulary', { id, size: this.vocabulary.size });
    return bytes;
  }

  #encodeWords(text: string, out: number[]): void {
    for (const word of this.#preTokenizer.split(text)) {
      const length = this.#utf8(word);
      if (this.#preTokenizer.wholeWords) {
        const id = this.vocabulary.normal.get(Buffer.from(this.#word.buffer, 0, length).toString('latin1'));
        if (id !== undefined) {
          out.push(id);
          continue;
        }
      }
      this.#bpe.encode(this.#word, length, out);
    }
  }

  /** Writes the word's UTF-8 into #word; its length. ASCII, the usual case, without a call. */
  #utf8(word: string): number {
    if (word.length * UTF8_PER_UNIT > this.#word.length) this.#word = new Uint8Array(word.length * UTF8_PER_UNIT);
    for (let i = 0; i < word.length; i++) {
      const unit = word.charCodeAt(i);
      if (unit >= 0x80) return this.#encoder.encodeInto(word, this.#word).written;
      this.#word[i] = unit;
    }
    return word.length;
  }
}

/** Builds the tokeniser of a model file. Throws ModelFileError: which tokeniser it wants, and what is supported. */
export function readTokenizer(metadata: GgufMetadata): Tokenizer {
  const model = metadata.get('tokenizer.ggml.model');
  if (model !== 'gpt2')
    throw new ModelFileError(
      'unsupported',
      `tokenizer.ggml.model is ${model === undefined ? 'missing' : JSON.stringify(String(model).slice(0, 80))}; "gpt2" (byte-level BPE) is supported`,
    );
  const name = metadata.get('tokenizer.ggml.pre');
  if (typeof name !== 'string')
    throw new ModelFileError(
      'unsupported',
      'tokenizer.ggml.pre is missing: how this model cuts words is unknown; convert it anew with a current converter',
    );
  return new Tokenizer(readVocabulary(metadata), preTokenizerOf(name), stringList(metadata, 'tokenizer.ggml.merges'));
}
