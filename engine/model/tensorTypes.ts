// How elements lie in a tensor: block geometry of each readable type. GGML's numbers and names for all of them are @huggingface/gguf's,
// so that an unsupported type can be named in its refusal.
import { GGMLQuantizationType } from '@huggingface/gguf';
import { invariant } from '../invariant.ts';
import type { TensorType } from './types.ts';

/** Elements and bytes of one block along a row. */
export const BLOCK_LAYOUT: Readonly<Record<TensorType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
};

/** The readable type of this GGML number, or null. */
export function tensorTypeOf(ggmlType: number): TensorType | null {
  const name = GGMLQuantizationType[ggmlType];
  return name !== undefined && name in BLOCK_LAYOUT ? (name as TensorType) : null;
}

/** GGML's name of a type, readable or not. */
export function ggmlTypeName(ggmlType: number): string {
  return GGMLQuantizationType[ggmlType] ?? `unknown type ${ggmlType}`;
}

/** GGML's number of a readable type. */
export function ggmlTypeOf(type: TensorType): number {
  return GGMLQuantizationType[type];
}

/** Bytes of one row of `cols` elements. `cols` must be whole blocks. */
export function rowByteLength(type: TensorType, cols: number): number {
  const { elements, bytes } = BLOCK_LAYOUT[type];
  invariant(cols % elements === 0, 'a row holds whole blocks', { type, cols });
  return (cols / elements) * bytes;
}
