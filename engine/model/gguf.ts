// The header of a GGUF file (v2, v3, little-endian): metadata and tensor table, every length checked against a named limit and the
// bytes that are left before anything is allocated for it. Knows nothing of architectures.
//
// @huggingface/gguf isn't used: it pads a local file's last chunk with zeros, so that a truncated header parses; keeps metadata in a
// plain object, where the key `__proto__` is special; and computes offsets by 32-bit arithmetic. The tests take it as an oracle.
import { ModelFileError } from './errors.ts';
import { type GgufScalar, HeaderCursor, type ReadAt, VALUE_BYTES, VALUE_TYPES } from './headerCursor.ts';

/** Known models have under 100 keys. */
export const MAX_METADATA_KEYS = 4096;
/** ggml's own limit on keys is 65535 bytes; real ones have under 100. */
export const MAX_KEY_BYTES = 1024;
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

export type { GgufScalar, ReadAt };
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
