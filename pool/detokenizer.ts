// Token ids to text, incrementally, for one sequence: a token may hold part of a character, so text leaves only in whole UTF-8
// characters and the rest is held back until it is complete, or becomes U+FFFD at the end. Control tokens have no text.
import type { ModelText } from '../engine/model/types.ts';

export type TokenTexts = Pick<ModelText, 'tokenBytes' | 'isControl'>;

export class Detokenizer {
  readonly #tokens: TokenTexts;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokens: TokenTexts) {
    this.#tokens = tokens;
  }

  /** The text that became certain with this token; at most 3 bytes stay behind. */
  push(id: number): string {
    if (this.#tokens.isControl(id)) return '';
    return this.#decoder.decode(this.#tokens.tokenBytes(id), { stream: true });
  }

  /** What is left at the end: nothing, or U+FFFD for a character that never came whole. */
  flush(): string {
    return this.#decoder.decode();
  }
}

/** A token on its own, as logprobs show it: U+FFFD where its bytes are no whole character. */
export function tokenText(tokens: TokenTexts, id: number): { token: string; bytes: number[] } {
  const bytes = tokens.tokenBytes(id);
  return { token: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes: [...bytes] };
}
