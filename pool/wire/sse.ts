// Server-sent events from bytes, however they are cut: between the bytes of a character, inside a line end, anywhere. Lines and events are
// bounded, so that a peer can't fill memory with one that never ends. (WHATWG HTML, 9.2.6.)

export interface SseEvent {
  id: string;
  data: string;
}

/** Longest line, and all data of an event: one with the logprobs of a few thousand prompt tokens. */
export const MAX_SSE_LINE_CHARS = 16 * 1024 * 1024;

export class SseLineTooLong extends Error {
  override readonly name = 'SseLineTooLong';
}

export class SseParser {
  readonly #decoder = new TextDecoder();
  readonly #maxLineChars: number;
  #pieces: string[] = [];
  #pending = 0;
  /** The last piece ended with a CR, so that a LF at the beginning of the next belongs to it. */
  #afterCr = false;
  #id = '';
  #data: string[] = [];
  #dataChars = 0;

  constructor(maxLineChars = MAX_SSE_LINE_CHARS) {
    this.#maxLineChars = maxLineChars;
  }

  /** Events that are whole with these bytes. Throws SseLineTooLong. An event without its blank line is never given out. */
  push(bytes: Uint8Array): SseEvent[] {
    const events: SseEvent[] = [];
    const chunk = this.#decoder.decode(bytes, { stream: true });
    let start = this.#afterCr && chunk.startsWith('\n') ? 1 : 0;
    if (chunk !== '') this.#afterCr = false;
    let [cr, lf] = [chunk.indexOf('\r', start), chunk.indexOf('\n', start)];
    while (cr !== -1 || lf !== -1) {
      const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
      this.#line(this.#take(chunk.slice(start, end)), events);
      start = end + 1;
      if (end === cr && start === chunk.length) this.#afterCr = true;
      if (end === cr && lf === start) start += 1;
      // What isn't in the rest is not looked for again.
      if (cr !== -1 && cr < start) cr = chunk.indexOf('\r', start);
      if (lf !== -1 && lf < start) lf = chunk.indexOf('\n', start);
    }
    this.#keep(chunk.slice(start));
    return events;
  }

  #keep(piece: string): void {
    if (piece === '') return;
    this.#pending += piece.length;
    if (this.#pending > this.#maxLineChars)
      throw new SseLineTooLong(`a line has more than ${this.#maxLineChars} characters`);
    this.#pieces.push(piece);
  }

  #take(piece: string): string {
    if (this.#pending === 0 && piece.length <= this.#maxLineChars) return piece;
    this.#keep(piece);
    const line = this.#pieces.join('');
    this.#pieces = [];
    this.#pending = 0;
    return line;
  }

  #line(line: string, events: SseEvent[]): void {
    if (line === '') {
      if (this.#data.length > 0) events.push({ id: this.#id, data: this.#data.join('\n') });
      this.#data = [];
      this.#dataChars = 0;
      this.#id = '';
      return;
    }
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'data') {
      this.#dataChars += value.length;
      if (this.#dataChars > this.#maxLineChars)
        throw new SseLineTooLong(`an event has more than ${this.#maxLineChars} characters`);
      this.#data.push(value);
    } else if (field === 'id') this.#id = value;
  }
}
