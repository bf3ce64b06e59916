// An HTTP/1.1 answer out of the bytes of its connection, however they are cut (RFC 9112). Strict wherever a lax reader could be led to see
// another end than the sender's: one framing, CRLF alone, no folded lines, nothing behind the end. Bounded, but for the body: whoever reads
// that has a bound of its own.
//
//   status ─▶ headers ─┬─▶ fixed (content-length) ───────────────────────▶ over
//     ▲          │     ├─▶ size ─▶ chunk ─▶ chunk end ─▶ size … trailers ─▶ over
//     └── 1xx ───┘     └─▶ open, until the connection ends ──────────────▶ over

/** A status line with its headers, or all trailers. */
const MAX_HEAD_BYTES = 32 * 1024;
/** The line of a chunk's size, with extensions. */
const MAX_SIZE_BYTES = 1024;

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What a header may hold, in either direction. */
export const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const LENGTH = /^\d{1,15}$/;
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,12})[\t ]*(?:;.*)?$/;
const LINE_FEED = 10;
const HEAD_END = '\r\n\r\n';

/** What came is no HTTP/1.1 that this reader accepts, or broke off. */
export class BadAnswer extends Error {
  override readonly name = 'BadAnswer';
}

export interface AnswerHead {
  status: number;
  /** By lower-case name; what came twice is joined by a comma. */
  headers: ReadonlyMap<string, string>;
}

export class HttpAnswer {
  /** Once it is whole; informational ones (1xx) are passed over. */
  head: AnswerHead | null = null;
  over = false;
  /** Whether the connection may carry another answer behind this one. */
  reusable = false;
  #reading: 'status' | 'headers' | 'fixed' | 'open' | 'size' | 'chunk' | 'chunk end' | 'trailers' = 'status';
  /** Bytes of body, or of its chunk, that are still to come. */
  #left = 0;
  /** The line so far, and the bytes that the bound on lines counts. */
  #line = '';
  #lineBytes = 0;
  #status = 0;
  #headers = new Map<string, string>();

  /** The body that is in these bytes, in pieces that are views of them. Throws BadAnswer. */
  push(bytes: Buffer): Buffer[] {
    const body: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      if (this.over) throw new BadAnswer('bytes came behind the end of the answer');
      if (this.#reading === 'open') {
        body.push(bytes.subarray(at));
        at = bytes.length;
      } else if (this.#reading === 'fixed' || this.#reading === 'chunk') {
        const piece = bytes.subarray(at, at + this.#left);
        body.push(piece);
        at += piece.length;
        this.#left -= piece.length;
        if (this.#left > 0) continue;
        if (this.#reading === 'fixed') this.over = true;
        else this.#reading = 'chunk end';
      } else at = this.#reading === 'status' ? this.#readHead(bytes, at) : this.#readLine(bytes, at);
    }
    return body;
  }

  /** The connection has ended, so the answer has as well. Throws BadAnswer where that is too early. */
  end(): void {
    if (this.#reading !== 'open' && !this.over) throw new BadAnswer('the connection ended before the answer did');
    this.over = true;
  }

  /** The same as line by line, of a head that is here whole. Where it stopped reading. */
  #readHead(bytes: Buffer, from: number): number {
    if (this.#line !== '') return this.#readLine(bytes, from);
    const text = bytes.toString('latin1', from, Math.min(bytes.length, from + MAX_HEAD_BYTES));
    const end = text.indexOf(HEAD_END);
    if (end === -1) return this.#readLine(bytes, from);
    const length = end + HEAD_END.length;
    this.#bound(length);
    for (const line of text.slice(0, end).split('\r\n')) this.#take(line);
    this.#take('');
    return from + length;
  }

  /** So many bytes more of a head or a chunk's size. */
  #bound(bytes: number): void {
    this.#lineBytes += bytes;
    if (this.#lineBytes > (this.#reading === 'size' ? MAX_SIZE_BYTES : MAX_HEAD_BYTES))
      throw new BadAnswer('the head of the answer, or of a chunk, is too long');
  }

  /** Where it stopped reading. */
  #readLine(bytes: Buffer, from: number): number {
    const found = bytes.indexOf(LINE_FEED, from);
    const stop = found === -1 ? bytes.length : found + 1;
    this.#bound(stop - from);
    this.#line += bytes.toString('latin1', from, stop);
    if (found === -1) return stop;
    if (!this.#line.endsWith('\r\n')) throw new BadAnswer('a line does not end with CRLF');
    const line = this.#line.slice(0, -2);
    this.#line = '';
    this.#take(line);
    return stop;
  }

  #take(line: string): void {
    switch (this.#reading) {
      case 'status': {
        const [, minor, status] = STATUS_LINE.exec(line) ?? [];
        if (status === undefined) throw new BadAnswer('it does not begin with a status line of HTTP/1.1');
        this.#status = Number(status);
        this.reusable = minor === '1';
        this.#reading = 'headers';
        return;
      }
      case 'headers':
        if (line !== '') this.#addHeader(line);
        else this.#endHeaders();
        return;
      case 'size': {
        const [, size] = CHUNK_SIZE.exec(line) ?? [];
        if (size === undefined) throw new BadAnswer('a chunk does not begin with its size');
        this.#left = Number.parseInt(size, 16);
        this.#lineBytes = 0;
        this.#reading = this.#left > 0 ? 'chunk' : 'trailers';
        return;
      }
      case 'chunk end':
        if (line !== '') throw new BadAnswer('a chunk is longer than its size');
        this.#lineBytes = 0;
        this.#reading = 'size';
        return;
      case 'trailers':
        this.over = line === '';
    }
  }

  #addHeader(line: string): void {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon)).toLowerCase();
    const told = line.slice(colon + 1);
    if (!FIELD_NAME.test(name) || !FIELD_VALUE.test(told)) throw new BadAnswer('a header is malformed');
    const value = withoutBlanks(told);
    const before = this.#headers.get(name);
    this.#headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }

  #endHeaders(): void {
    const [status, headers] = [this.#status, this.#headers];
    if (status === 101) throw new BadAnswer('nobody asked for another protocol');
    if (status < 200) {
      this.#headers = new Map();
      this.#reading = 'status';
      return;
    }
    this.head = { status, headers };
    this.#lineBytes = 0;
    const [length, coding] = [headers.get('content-length'), headers.get('transfer-encoding')];
    if (/\bclose\b/i.test(headers.get('connection') ?? '')) this.reusable = false;
    if (status === 204 || status === 304) this.over = true;
    else if (coding !== undefined) {
      if (length !== undefined || coding.toLowerCase() !== 'chunked')
        throw new BadAnswer('its framing is not the one that is known');
      this.#reading = 'size';
    } else if (length !== undefined) {
      if (!LENGTH.test(length)) throw new BadAnswer('its length is no number');
      this.#left = Number(length);
      this.#reading = 'fixed';
      this.over = this.#left === 0;
    } else {
      this.#reading = 'open';
      this.reusable = false;
    }
  }
}

/** Without spaces and tabs around it: trim() takes what Unicode calls a space, too, and another reader of the line would keep that. */
function withoutBlanks(value: string): string {
  const blank = (at: number): boolean => value.charCodeAt(at) === 0x20 || value.charCodeAt(at) === 0x09;
  let [start, end] = [0, value.length];
  while (start < end && blank(start)) start++;
  while (end > start && blank(end - 1)) end--;
  return value.slice(start, end);
}
