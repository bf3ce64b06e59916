// Opens a model file and checks everything that it claims before any of its weights are read: header, hyperparameters, every
// tensor's type, shape and place. What comes out is trusted by the rest of the engine.
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { invariant } from '../invariant.ts';
import { ModelFileError } from './errors.ts';
import { alignUp, type GgufHeader, type GgufMetadata, type GgufTensor, readGgufHeader } from './gguf.ts';
import { type ExpectedTensor, llamaTensors, readLlamaConfig } from './llamaConfig.ts';
import { BLOCK_LAYOUT, ggmlTypeName, rowByteLength, tensorTypeOf } from './tensorTypes.ts';
import { type ModelConfig, type ModelFile, TENSOR_TYPES, type TensorInfo } from './types.ts';

/** Bytes per read while hashing: large enough for the disk, small enough to stay out of the way. */
const HASH_CHUNK_BYTES = 4 * 2 ** 20;

/** SHA-256 of a whole file in hex, streamed. `onBytes` hears how many more were hashed. */
export async function sha256OfFile(source: string | FileHandle, onBytes?: (bytes: number) => void): Promise<string> {
  const handle = typeof source === 'string' ? await open(source, 'r') : source;
  try {
    const hash = createHash('sha256');
    const chunk = new Uint8Array(HASH_CHUNK_BYTES);
    for (let position = 0; ; ) {
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, position);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(chunk.subarray(0, bytesRead));
      position += bytesRead;
      onBytes?.(bytesRead);
    }
  } finally {
    if (typeof source === 'string') await handle.close();
  }
}

function describe(rows: number, cols: number): string {
  return `[${rows}, ${cols}]`;
}

function checkTensor(raw: GgufTensor, expected: ExpectedTensor | undefined, dataOffset: number): TensorInfo {
  const what = `tensor ${JSON.stringify(raw.name)}`;
  if (!expected)
    throw new ModelFileError(
      'unsupported',
      `${what} is not a part of the architecture llama as supported: no biases, experts or adapters, and blocks 0 to block_count − 1`,
    );
  const type = tensorTypeOf(raw.ggmlType);
  if (type === null)
    throw new ModelFileError(
      'unsupported',
      `${what} is of type ${ggmlTypeName(raw.ggmlType)}; supported are ${TENSOR_TYPES.join(', ')}`,
    );
  const [cols = 0, rows = 1, ...outer] = raw.dimensions;
  if (cols !== expected.cols || rows !== expected.rows || outer.some((size) => size !== 1))
    throw new ModelFileError(
      'malformed',
      `${what} has shape [${[...raw.dimensions].reverse().join(', ')}], but the metadata call for ${describe(expected.rows, expected.cols)}`,
    );
  if (expected.vector && type !== 'F32')
    throw new ModelFileError('unsupported', `${what} is a vector of type ${type}; F32 is supported for vectors`);
  if (cols % BLOCK_LAYOUT[type].elements !== 0)
    throw new ModelFileError(
      'malformed',
      `${what} is of type ${type} with rows of ${cols}; rows must be a multiple of ${BLOCK_LAYOUT[type].elements}`,
    );
  return {
    name: raw.name,
    type,
    rows,
    cols,
    offset: dataOffset + raw.relativeOffset,
    byteLength: rows * rowByteLength(type, cols),
  };
}

/** Tensors follow each other with padding only, and end with the file: nothing overlaps, nothing hides. */
function checkPlaces(tensors: readonly TensorInfo[], header: GgufHeader, fileBytes: number): void {
  let end = header.dataOffset;
  let before = 'the header';
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset)) {
    const what = `tensor ${JSON.stringify(tensor.name)}`;
    if (tensor.offset < end)
      throw new ModelFileError('malformed', `${what} at ${tensor.offset} overlaps ${before}, which ends at ${end}`);
    const expected = alignUp(end, header.alignment);
    if (tensor.offset > expected)
      throw new ModelFileError(
        'malformed',
        `${what} is at ${tensor.offset}, but ${before} ends at ${end}: a gap of more than the alignment ${header.alignment}`,
      );
    end = tensor.offset + tensor.byteLength;
    before = what;
    if (end > fileBytes)
      throw new ModelFileError('truncated', `${what} ends at ${end}, but the file at ${fileBytes}: download it again`);
  }
  const expected = alignUp(end, header.alignment);
  if (fileBytes > expected)
    throw new ModelFileError(
      'malformed',
      `the file has ${fileBytes} bytes, but its last tensor ends at ${end}: ${fileBytes - end} bytes are unaccounted for`,
    );
}

/** Checks a header against the size of its file. Pure, so that hostile headers can be tried by the thousand. */
export function checkHeader(
  header: GgufHeader,
  fileBytes: number,
): { config: ModelConfig; tensors: ReadonlyMap<string, TensorInfo> } {
  const names = new Set(header.tensors.map((tensor) => tensor.name));
  const config = readLlamaConfig(header.metadata, !names.has('output.weight'));
  const expected = llamaTensors(config);
  const tensors = new Map<string, TensorInfo>();
  for (const raw of header.tensors) tensors.set(raw.name, checkTensor(raw, expected.get(raw.name), header.dataOffset));
  for (const [name, { optional }] of expected)
    if (!optional && !tensors.has(name))
      throw new ModelFileError('malformed', `tensor ${JSON.stringify(name)} is missing`);
  checkPlaces([...tensors.values()], header, fileBytes);
  return { config, tensors };
}

class OpenedModelFile implements ModelFile {
  readonly path: string;
  readonly sha256: string;
  readonly byteLength: number;
  readonly config: ModelConfig;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, facts: Omit<ModelFile, 'read' | 'close'>) {
    this.#handle = handle;
    this.path = facts.path;
    this.sha256 = facts.sha256;
    this.byteLength = facts.byteLength;
    this.config = facts.config;
    this.tensors = facts.tensors;
  }

  async read(tensor: TensorInfo, byteOffset: number, into: Uint8Array): Promise<void> {
    invariant(byteOffset >= 0 && byteOffset + into.length <= tensor.byteLength, 'a read stays inside its tensor', {
      tensor: tensor.name,
      byteOffset,
      length: into.length,
      byteLength: tensor.byteLength,
    });
    for (let filled = 0; filled < into.length; ) {
      const position = tensor.offset + byteOffset + filled;
      const { bytesRead } = await this.#handle.read(into, filled, into.length - filled, position);
      if (bytesRead === 0)
        throw new ModelFileError(
          'truncated',
          `tensor ${JSON.stringify(tensor.name)}: ${this.path} ends at ${position}; it changed after it was opened`,
        );
      filled += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Opens a file, checks its header, and hands both on; the handle is closed when `use` throws. */
async function withCheckedFile<T>(path: string, use: (opened: CheckedFile) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    // Non-blocking, so that a named pipe is refused below and not waited for.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
    throw new ModelFileError('unreadable', `${path} can't be opened: ${code}`, { cause });
  }
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw new ModelFileError('unreadable', 'not a regular file');
    const readAt = (into: Uint8Array, position: number) => readSync(handle.fd, into, 0, into.length, position);
    const header = readGgufHeader(readAt, status.size);
    return await use({ handle, header, byteLength: status.size, ...checkHeader(header, status.size) });
  } catch (error) {
    await handle.close();
    if (error instanceof ModelFileError)
      throw new ModelFileError(error.code, `${path}: ${error.message}`, { cause: error });
    throw error;
  }
}

interface CheckedFile {
  handle: FileHandle;
  header: GgufHeader;
  byteLength: number;
  config: ModelConfig;
  tensors: ReadonlyMap<string, TensorInfo>;
}

/** Opens, checks and digests a GGUF file. Throws ModelFileError; the caller closes `file`. */
export function openModelFile(path: string): Promise<{ file: ModelFile; metadata: GgufMetadata }> {
  return withCheckedFile(path, async ({ handle, header, byteLength, config, tensors }) => {
    const sha256 = await sha256OfFile(handle);
    return {
      file: new OpenedModelFile(handle, { path, sha256, byteLength, config, tensors }),
      metadata: header.metadata,
    };
  });
}

/** What a file says of itself, checked as openModelFile does, without its weights or its digest. Throws ModelFileError. */
export function readModelHeader(path: string): Promise<{ config: ModelConfig; metadata: GgufMetadata }> {
  return withCheckedFile(path, async ({ handle, header, config }) => {
    await handle.close();
    return { config, metadata: header.metadata };
  });
}
