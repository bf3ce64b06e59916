// Tokens to text, as the library's decoder step: what is written in the byte alphabet becomes bytes, read as UTF-8; the other tokens,
// control tokens above all, stand for themselves.
import { ByteLevelDecoder } from '@huggingface/tokenizers';
import type { Vocabulary } from './vocabulary.ts';

export class TokenDecoder extends ByteLevelDecoder {
  readonly #verbatim: ReadonlySet<string>;

  constructor({ tokens, producible }: Vocabulary) {
    super({ type: 'ByteLevel' });
    this.#verbatim = new Set(tokens.filter((token, id) => producible[id] === 0 && token !== ''));
  }

  /**
   * The library's own looks through all added tokens for each token, 18 s for a million tokens where 7 000 are added, and reads
   * characters from outside the alphabet as zero bytes in tokens that aren't.
   */
  override decode_chain(tokens: string[]): string[] {
    const texts: string[] = [];
    let start = 0;
    for (let i = 0; i <= tokens.length; i++) {
      const token = tokens[i];
      if (token !== undefined && !this.#verbatim.has(token)) continue;
      if (i > start) texts.push(this.convert_tokens_to_string(tokens.slice(start, i)));
      if (token !== undefined) texts.push(token);
      start = i + 1;
    }
    return texts;
  }
}
