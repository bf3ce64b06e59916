// Writes GGUF v3 bytes from metadata and tensors, with no check at all: hostile files are made with it too.
import type { GgufScalar } from '../../engine/model/gguf.ts';

const TYPE_NUMBERS = { u8: 0, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, u64: 10, f64: 12 } as const;
type WrittenType = keyof typeof TYPE_NUMBERS;

/** A typed metadata value: a scalar, or an array of one type. */
export type WrittenValue = readonly [type: WrittenType, value: GgufScalar | readonly GgufScalar[]];

export interface WrittenTensor {
  name: string;
  /** Fastest dimension first. */
  dimensions: readonly number[];
  ggmlType: number;
  bytes: Uint8Array;
  /** Overrides the place in the data section that the table claims. */
  claimedOffset?: number;
}

class Bytes {
  #data = new Uint8Array(4096);
  #view = new DataView(this.#data.buffer);
  length = 0;

  #grow(bytes: number): number {
    if (this.length + bytes > this.#data.length) {
      const grown = new Uint8Array(Math.max(this.#data.length * 2, this.length + bytes));
      grown.set(this.#data);
      this.#data = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.length += bytes;
    return this.length - bytes;
  }

  append(bytes: Uint8Array): void {
    const at = this.#grow(bytes.length);
    this.#data.set(bytes, at);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  u64(value: number | bigint): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  string(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.append(bytes);
  }

  scalar(type: WrittenType, value: GgufScalar): void {
    if (type === 'string') this.string(String(value));
    else if (type === 'u64') this.u64(BigInt(value));
    else this.#number(type, Number(value));
  }

  #number(type: Exclude<WrittenType, 'string' | 'u64'>, number: number): void {
    const at = this.#grow(type === 'u8' || type === 'bool' ? 1 : type === 'f64' ? 8 : 4);
    if (type === 'u8' || type === 'bool') this.#view.setUint8(at, number);
    else if (type === 'f32') this.#view.setFloat32(at, number, true);
    else if (type === 'f64') this.#view.setFloat64(at, number, true);
    else if (type === 'i32') this.#view.setInt32(at, number, true);
    else this.#view.setUint32(at, number, true);
  }

  align(alignment: number): void {
    this.#grow((alignment - (this.length % alignment)) % alignment);
  }

  slice(): Uint8Array {
    return this.#data.slice(0, this.length);
  }
}

/** The bytes of a GGUF v3 file: header, table, and each tensor's bytes at the next multiple of `alignment`. */
export function ggufBytes(
  metadata: readonly (readonly [key: string, value: WrittenValue])[],
  tensors: readonly WrittenTensor[],
  alignment = 32,
): Uint8Array {
  const out = new Bytes();
  out.u32(0x46554747);
  out.u32(3);
  out.u64(tensors.length);
  out.u64(metadata.length);
  for (const [key, [type, value]] of metadata) {
    out.string(key);
    if (typeof value !== 'object') {
      out.u32(TYPE_NUMBERS[type]);
      out.scalar(type, value);
      continue;
    }
    out.u32(9);
    out.u32(TYPE_NUMBERS[type]);
    out.u64(value.length);
    for (const element of value) out.scalar(type, element);
  }
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name);
    out.u32(tensor.dimensions.length);
    for (const size of tensor.dimensions) out.u64(size);
    out.u32(tensor.ggmlType);
    out.u64(tensor.claimedOffset ?? offset);
    offset = Math.ceil((offset + tensor.bytes.length) / alignment) * alignment;
  }
  out.align(alignment);
  for (const tensor of tensors) {
    out.append(tensor.bytes);
    out.align(alignment);
  }
  return out.slice();
}
