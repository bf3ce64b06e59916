// The header of a GGUF file (v2, v3, little-endian): metadata and tensor table, every length checked against a named limit and the
// bytes that are left before anything is allocated for it. Knows nothing of architectures.
//
// @huggingface/gguf isn't used: it pads a local file's last chunk with zeros, so that a truncated header parses; keeps metadata in a
// plain object, where the key `__proto__` is special; and computes offsets by 32-bit arithmetic. The tests take it as an oracle.
import { ModelFileError } from './errors.ts';

/** Above any known model (the largest vocabularies make 20 MB); keeps a hostile header from filling memory. */
export const MAX_HEADER_BYTES = 128 * 2 ** 20;
/** Known models have under 100 keys. */
export const MAX_METADATA_KEYS = 4096;
/** ggml's own limit on keys is 65535 bytes; real ones have under 100. */
export const MAX_KEY_BYTES = 1024;
/** The longest real strings are chat templates, under 100 kB. */
export const MAX_STRING_BYTES = 2 * 2 ** 20;
/** Merges of the largest vocabularies: about 520 000. */
export const MAX_ARRAY_LENGTH = 2_000_000;
/** A 405B llama has 1138. */
export const MAX_TENSORS = 16_384;
/** ggml's GGML_MAX_NAME. */
export const MAX_TENSOR_NAME_BYTES = 64;
/** ggml's GGML_MAX_DIMS. */
export const MAX_DIMENSIONS = 4;
/** Elements along a dimension; a vocabulary has under 2^19. Products of four stay exact in checks against the file's size. */
export const MAX_DIMENSION = 2 ** 31;
/** Bytes; writers use 32, or 4096 for memory mapping. */
export const MAX_ALIGNMENT = 65_536;

/** Integers are numbers where exact, bigints beyond 2^53. */
export type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | readonly GgufScalar[];
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** A row of the tensor table as the file has it. */
export interface GgufTensor {
  name: string;
  /** Fastest dimension first. */
  dimensions: readonly number[];
  /** ggml_type number, unchecked. */
  ggmlType: number;
  /** Bytes from the start of the data section, a multiple of the alignment. */
  relativeOffset: number;
}

export interface GgufHeader {
  version: number;
  metadata: GgufMetadata;
  tensors: readonly GgufTensor[];
  alignment: number;
  /** Bytes from the start of the file. */
  dataOffset: number;
}

/** Fills `into` from the file's bytes at `position`; how many there were, 0 only at the end. */
export type ReadAt = (into: Uint8Array, position: number) => number;

const VALUE_TYPES = [
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
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8] as const;

const WINDOW_BYTES = 2 ** 20;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A window that moves over the file: `take(n)` gives the next n bytes or throws. */
class HeaderCursor {
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

function readValue(cursor: HeaderCursor, what: string): GgufValue {
  const type = cursor.u32(`type of ${what}`);
  if (VALUE_TYPES[type] !== 'array') return cursor.scalar(type, what);
  const elementType = cursor.u32(`element type of ${what}`);
  if (VALUE_TYPES[elementType] === undefined || VALUE_TYPES[elementType] === 'array')
    throw new ModelFileError(
      'unsupported',
      `${what} is an array of ${VALUE_TYPES[elementType] ?? `type ${elementType}`}; arrays of numbers, bools and strings are supported`,
    );
  const length = cursor.u64(`length of ${what}`, MAX_ARRAY_LENGTH);
  cursor.require(length * VALUE_BYTES[elementType]!, what);
  const elements: GgufScalar[] = [];
  for (let i = 0; i < length; i++) elements.push(cursor.scalar(elementType, what));
  return elements;
}

function readTensor(cursor: HeaderCursor, index: number): GgufTensor {
  const name = cursor.string(`name of tensor ${index}`, MAX_TENSOR_NAME_BYTES);
  const what = `tensor ${JSON.stringify(name)}`;
  const count = cursor.u32(`${what}: number of dimensions`);
  if (count < 1 || count > MAX_DIMENSIONS)
    throw new ModelFileError('malformed', `${what} has ${count} dimensions; 1 to ${MAX_DIMENSIONS} are supported`);
  const dimensions: number[] = [];
  for (let d = 0; d < count; d++) {
    const size = cursor.u64(`${what}: dimension ${d}`, MAX_DIMENSION);
    if (size === 0) throw new ModelFileError('malformed', `${what}: dimension ${d} is 0`);
    dimensions.push(size);
  }
  const ggmlType = cursor.u32(`${what}: type`);
  const relativeOffset = cursor.u64(`${what}: offset`, Number.MAX_SAFE_INTEGER);
  return { name, dimensions, ggmlType, relativeOffset };
}

/** Bytes of `position` rounded up to the alignment. */
export function alignUp(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

/** Reads the header. Throws ModelFileError: it names the field, what was found and what is supported. */
export function readGgufHeader(readAt: ReadAt, fileBytes: number): GgufHeader {
  const cursor = new HeaderCursor(readAt, fileBytes);
  const magic = cursor.u32('magic number');
  if (magic !== 0x46554747)
    throw new ModelFileError(
      'malformed',
      `magic number is 0x${magic.toString(16).padStart(8, '0')}: not a GGUF file (0x46554747)`,
    );
  const version = cursor.u32('GGUF version');
  if (version !== 2 && version !== 3)
    throw new ModelFileError('unsupported', `GGUF version is ${version}; 2 and 3, little-endian, are supported`);
  const tensorCount = cursor.u64('number of tensors', MAX_TENSORS);
  const keyCount = cursor.u64('number of metadata keys', MAX_METADATA_KEYS);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string(`metadata key ${i}`, MAX_KEY_BYTES);
    const what = `metadata ${JSON.stringify(key)}`;
    if (metadata.has(key)) throw new ModelFileError('malformed', `${what} is there twice`);
    metadata.set(key, readValue(cursor, what));
  }

  const alignment = metadata.get('general.alignment') ?? 32;
  if (
    typeof alignment !== 'number' ||
    alignment > MAX_ALIGNMENT ||
    alignment < 8 ||
    (alignment & (alignment - 1)) !== 0
  )
    throw new ModelFileError(
      'malformed',
      `general.alignment is ${String(alignment)}; powers of two from 8 to ${MAX_ALIGNMENT} are supported`,
    );

  const names = new Set<string>();
  const tensors: GgufTensor[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensor(cursor, i);
    if (names.has(tensor.name))
      throw new ModelFileError('malformed', `tensor ${JSON.stringify(tensor.name)} is in the table twice`);
    if (tensor.relativeOffset % alignment !== 0)
      throw new ModelFileError(
        'malformed',
        `tensor ${JSON.stringify(tensor.name)} is at offset ${tensor.relativeOffset}, no multiple of the alignment ${alignment}`,
      );
    names.add(tensor.name);
    tensors.push(tensor);
  }
  return { version, metadata, tensors, alignment, dataOffset: alignUp(cursor.position, alignment) };
}
