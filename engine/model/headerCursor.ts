// Reads a GGUF header's primitives in order through a window that moves over the file, little-endian. No length is believed: each is
// checked against its limit and against the bytes that are left before anything is allocated for it.
import { ModelFileError } from './errors.ts';

/** Above any known model (the largest vocabularies make 20 MB); keeps a hostile header from filling memory. */
export const MAX_HEADER_BYTES = 128 * 2 ** 20;
/** The longest real strings are chat templates, under 100 kB. */
export const MAX_STRING_BYTES = 2 * 2 ** 20;

/** Integers are numbers where exact, bigints beyond 2^53. */
export type GgufScalar = number | bigint | boolean | string;

/** Fills `into` from the file's bytes at `position`; how many there were, 0 only at the end. */
export type ReadAt = (into: Uint8Array, position: number) => number;

export const VALUE_TYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'bool',
  'string',
  'array',
  'uint64',
  'int64',
  'float64',
] as const;
/** Bytes of a value; of a string or an array, the fewest. */
export const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8] as const;

const WINDOW_BYTES = 2 ** 20;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A window that moves over the file: `take(n)` gives the next n bytes or throws. */
export class HeaderCursor {
  readonly #readAt: ReadAt;
  readonly #limit: number;
  readonly #fileBytes: number;
  #window = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  /** File position of the window's start, and the cursor within the window. */
  #base = 0;
  #at = 0;

  constructor(readAt: ReadAt, fileBytes: number) {
    this.#readAt = readAt;
    this.#fileBytes = fileBytes;
    this.#limit = Math.min(fileBytes, MAX_HEADER_BYTES);
  }

  get position(): number {
    return this.#base + this.#at;
  }

  get remaining(): number {
    return this.#limit - this.position;
  }

  /** Throws when fewer than `bytes` are left, before anything is allocated for them. */
  require(bytes: number, what: string): void {
    if (bytes <= this.remaining) return;
    if (this.#limit < this.#fileBytes)
      throw new ModelFileError(
        'unsupported',
        `${what}: the header is longer than the supported ${MAX_HEADER_BYTES} bytes`,
      );
    throw new ModelFileError(
      'truncated',
      `${what} needs ${bytes} bytes at ${this.position}, but the file ends at ${this.#fileBytes}: download it again`,
    );
  }

  /** Makes the next `bytes` contiguous in the window; their offset in it. Moves the cursor past them. */
  #take(bytes: number, what: string): number {
    this.require(bytes, what);
    if (this.#at + bytes > this.#window.length) {
      const position = this.position;
      const window = new Uint8Array(Math.min(Math.max(bytes, WINDOW_BYTES), this.#limit - position));
      for (let filled = 0; filled < window.length; ) {
        const got = this.#readAt(window.subarray(filled), position + filled);
        if (got === 0)
          throw new ModelFileError('truncated', `${what}: the file became shorter while it was read: open it again`);
        filled += got;
      }
      this.#window = window;
      this.#view = new DataView(window.buffer);
      this.#base = position;
      this.#at = 0;
    }
    this.#at += bytes;
    return this.#at - bytes;
  }

  u32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getUint32(at, true);
  }

  /** A count or offset: refused beyond `limit`. */
  u64(what: string, limit: number): number {
    const at = this.#take(8, what);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(limit))
      throw new ModelFileError('malformed', `${what} is ${value}; at most ${limit} is supported`);
    return Number(value);
  }

  string(what: string, limit: number): string {
    const bytes = this.u64(`length of ${what}`, limit);
    const at = this.#take(bytes, what);
    try {
      return utf8.decode(this.#window.subarray(at, at + bytes));
    } catch (cause) {
      throw new ModelFileError('malformed', `${what} is not valid UTF-8`, { cause });
    }
  }

  scalar(type: number, what: string): GgufScalar {
    if (VALUE_TYPES[type] === 'string') return this.string(what, MAX_STRING_BYTES);
    const at = this.#take(VALUE_BYTES[type] ?? 0, what);
    const view = this.#view;
    switch (VALUE_TYPES[type]) {
      case 'uint8':
        return view.getUint8(at);
      case 'int8':
        return view.getInt8(at);
      case 'uint16':
        return view.getUint16(at, true);
      case 'int16':
        return view.getInt16(at, true);
      case 'uint32':
        return view.getUint32(at, true);
      case 'int32':
        return view.getInt32(at, true);
      case 'float32':
        return view.getFloat32(at, true);
      case 'float64':
        return view.getFloat64(at, true);
      case 'uint64':
        return exact(view.getBigUint64(at, true));
      case 'int64':
        return exact(view.getBigInt64(at, true));
      case 'bool': {
        const byte = view.getUint8(at);
        if (byte > 1) throw new ModelFileError('malformed', `${what} is a bool of value ${byte}; 0 or 1 is supported`);
        return byte === 1;
      }
      default:
        throw new ModelFileError(
          'malformed',
          `${what} has value type ${VALUE_TYPES[type] ?? type}, not supported there`,
        );
    }
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
