// Keeps what a requester writes from becoming a control token on its way through a chat template.
//
// Wherever a control token's text could come of a message, a marker character that occurs nowhere else is put inside it; the template
// renders; what it writes itself is matched for control tokens; then the markers leave the plain text, which is as it was.
//
//     content   "a<|im_end|>b"         protected  "a<·|im_end|>b"
//     rendered  "<|im_start|>user\na<·|im_end|>b<|im_end|>"   only the template's own <|im_start|> and <|im_end|> match
//
// It holds through what templates do to text: trimming, cutting, changing case. Markers inside a token break it wherever it begins;
// at a content's edges they keep it from completing a token together with what the template writes around it. Beyond it is only a
// template that cuts a content in the middle and itself writes a piece of a token right there; none is known.
import { SpecialTokens } from './specialTokens.ts';

const PRIVATE_USE = [
  [0xe000, 0xf8ff],
  [0xf0000, 0xffffd],
] as const;

/** Lower case of upper case of lower case: equal for all texts that templates' upper, lower, title and capitalize could make equal. */
function fold(text: string): string {
  // The one letter whose case depends on its neighbours is made one.
  return text.toLowerCase().toUpperCase().toLowerCase().replaceAll('ς', 'σ');
}

/** The first private-use character that none of the texts holds; null when they hold them all, over 70 000. */
export function unusedMarker(texts: readonly string[]): string | null {
  const taken = new Set(texts.flatMap((text) => text.match(/\p{Co}/gu) ?? []));
  for (const [first, last] of PRIVATE_USE)
    for (let code = first; code <= last; code++) {
      const marker = String.fromCodePoint(code);
      if (!taken.has(marker)) return marker;
    }
  return null;
}

export class PlainContent {
  readonly #tokens: SpecialTokens;
  readonly #longest: number;
  /** Every proper beginning and end of a control token, folded. */
  readonly #beginnings = new Set<string>();
  readonly #ends = new Set<string>();
  readonly #all: string;

  constructor(controlTokens: Iterable<string>) {
    const folded = [...controlTokens].map(fold);
    this.#tokens = new SpecialTokens(folded.map((text, i) => [text, i]));
    this.#longest = folded.reduce((most, text) => Math.max(most, text.length), 0);
    this.#all = folded.join('\n');
    for (const text of folded)
      for (let cut = 1; cut < text.length; cut++) {
        this.#beginnings.add(text.slice(0, cut));
        this.#ends.add(text.slice(cut));
      }
  }

  /** The text with markers wherever it could take part in a control token; the same text, usually. */
  protect(text: string, marker: string): string {
    const broken = this.#breakTokens(text, marker);
    // Inside the white space at the edges, so that a template that trims still does; outside it too if a token has white space there.
    const body = broken.trim();
    const at = broken.indexOf(body);
    const [before, after] = [broken.slice(0, at), broken.slice(at + body.length)];
    const inside = body.length > 0 && body.length <= this.#longest && this.#all.includes(fold(body));
    const mark = (needed: boolean) => (needed ? marker : '');
    return [
      mark(before !== '' && this.#atStart(text)),
      before,
      mark(inside || this.#atStart(body)),
      body,
      mark(inside || this.#atEnd(body)),
      after,
      mark(after !== '' && this.#atEnd(text)),
    ].join('');
  }

  /** Whether the text's first characters could be the end of a token. */
  #atStart(text: string): boolean {
    const edge = fold(text.slice(0, this.#longest));
    for (let length = 1; length <= Math.min(edge.length, this.#longest); length++)
      if (this.#ends.has(edge.slice(0, length))) return true;
    return false;
  }

  /** Whether the text's last characters could be the beginning of a token. */
  #atEnd(text: string): boolean {
    const edge = fold(text.slice(-this.#longest));
    for (let length = 1; length <= Math.min(edge.length, this.#longest); length++)
      if (this.#beginnings.has(edge.slice(-length))) return true;
    return false;
  }

  /** A marker after the first character of each place where a token begins. */
  #breakTokens(text: string, marker: string): string {
    const folded = fold(text);
    let first = 0;
    while (first < folded.length && !this.#tokens.matchAt(folded, first)) first++;
    if (first === folded.length) return text;

    // Where the folded text has tokens: per character, as folding may change lengths.
    let out = '';
    let at = 0;
    for (const character of text) {
      const width = fold(character).length;
      out += character;
      for (let i = 0; i < width; i++)
        if (this.#tokens.matchAt(folded, at + i)) {
          out += marker;
          break;
        }
      at += width;
    }
    return out;
  }
}
