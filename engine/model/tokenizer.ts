// Text to token ids and back: @huggingface/tokenizers with the parts of a GGUF file. The library finds special tokens in a text, takes
// what lies between them through its steps, looks ids and tokens up, and decodes; the steps are ours (preTokenizers.ts, bpe.ts,
// tokenDecoder.ts). The time grows as n log n of the text, whatever it holds; nothing is remembered from one text to the next.
import { type AddedTokenConfig, Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { invariant } from '../invariant.ts';
import { Bpe } from './bpe.ts';
import { bytesOfWritten } from './byteLevel.ts';
import { ModelFileError } from './errors.ts';
import type { GgufMetadata } from './gguf.ts';
import { preTokenizerOf, type WordSplit } from './preTokenizers.ts';
import { TokenDecoder } from './tokenDecoder.ts';
import { readVocabulary, stringList, type Vocabulary } from './vocabulary.ts';

export class Tokenizer {
  readonly vocabulary: Vocabulary;
  /** Prompts begin with bosId. */
  readonly addsBos: boolean;
  /** Finds user-defined tokens in a text, and no others. */
  readonly #plain: LibraryTokenizer;
  /** Finds control tokens too. */
  readonly #raw: LibraryTokenizer;

  constructor(vocabulary: Vocabulary, preTokenizer: WordSplit, merges: readonly string[]) {
    this.vocabulary = vocabulary;
    this.addsBos = vocabulary.bosId !== null && (vocabulary.addBos ?? preTokenizer.addBos);
    const model = new Bpe(vocabulary, merges, preTokenizer.wholeWords);
    const decoder = new TokenDecoder(vocabulary);
    const finding = (tokens: readonly AddedTokenConfig[]): LibraryTokenizer => {
      // Built without a vocabulary, as the library would copy and index it for its own steps; then come ours, which share one.
      const tokenizer = new LibraryTokenizer(
        {
          ...{ added_tokens: tokens, normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null },
          model: { type: 'BPE', vocab: {}, merges: [], ignore_merges: false },
        },
        { clean_up_tokenization_spaces: false },
      );
      tokenizer.pre_tokenizer = preTokenizer;
      tokenizer.model = model;
      tokenizer.decoder = decoder;
      return tokenizer;
    };
    const added = (tokens: ReadonlyMap<string, number>, special: boolean): AddedTokenConfig[] =>
      [...tokens].map(([content, id]) => ({ id, content, special, normalized: false }));
    const userDefined = added(vocabulary.userDefined, false);
    this.#plain = finding(userDefined);
    this.#raw = finding([...userDefined, ...added(vocabulary.control, true)]);
  }

  /**
   * `parseSpecial: true` is a whole raw prompt: control tokens written out become control tokens, and it begins with the BOS token
   * once if the model wants that. Otherwise plain text, which can't make a control token.
   */
  encode(text: string, { parseSpecial }: { parseSpecial: boolean }): number[] {
    const wellFormed = text.toWellFormed();
    return parseSpecial ? this.withBos(this.#raw.encode(wellFormed).ids) : this.#plain.encode(wellFormed).ids;
  }

  /** Appends the ids of plain, well-formed text: no control token comes of it. */
  encodePlain(text: string, out: number[]): void {
    for (const id of this.#plain.encode(text).ids) out.push(id);
  }

  /** The same ids, beginning with the BOS token if the model wants that and they don't yet. */
  withBos(ids: number[]): number[] {
    const { bosId } = this.vocabulary;
    return this.addsBos && bosId !== null && ids[0] !== bosId ? [bosId, ...ids] : ids;
  }

  /** Invalid UTF-8 becomes U+FFFD. `ids` must be below the vocabulary's size. */
  decode(ids: readonly number[], options: { skipSpecial?: boolean } = {}): string {
    for (const id of ids) this.#written(id);
    // By id: the library's skip_special_tokens looks through a list of all special tokens for each token.
    const kept = options.skipSpecial ? ids.filter((id) => !this.isControl(id)) : [...ids];
    return kept.length === 0 ? '' : this.#plain.decode(kept);
  }

  tokenBytes(id: number): Uint8Array {
    const written = this.#written(id);
    const bytes = this.vocabulary.producible[id] === 1 ? bytesOfWritten(written) : null;
    return bytes ?? new TextEncoder().encode(written);
  }

  isControl(id: number): boolean {
    return this.vocabulary.controlIds.has(id);
  }

  #written(id: number): string {
    const written = this.#plain.id_to_token(id);
    invariant(written !== undefined, 'a token id is in the vocabulary', { id, size: this.vocabulary.size });
    return written;
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
