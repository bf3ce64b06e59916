// Where in a choice's text each token begins, in characters (Unicode code points, as Python counts). Counted from the tokens' own
// bytes, because a token may hold half a character: such a one begins where its character does.
import type { TokenLogprob } from '../../pool/wire/events.ts';

const isContinuation = (byte: number) => (byte & 0xc0) === 0x80;

export class TextOffsets {
  #characters = 0;

  /** Offset of this token; `inText`: its characters are part of the text. */
  next({ token, bytes }: Pick<TokenLogprob, 'token' | 'bytes'>, inText: boolean): number {
    const all = bytes ?? new TextEncoder().encode(token);
    const first = all[0];
    const inside = first !== undefined && isContinuation(first) && this.#characters > 0;
    const offset = inside ? this.#characters - 1 : this.#characters;
    if (inText) for (const byte of all) if (!isContinuation(byte)) this.#characters += 1;
    return offset;
  }
}
