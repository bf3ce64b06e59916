// How elements lie in a tensor: block geometry of each readable type, and GGML's numbers and names for all of them, so that an
// unsupported type can be named in its refusal.
import { invariant } from '../invariant.ts';
import type { TensorType } from './types.ts';

/** Elements and bytes of one block along a row. */
export const BLOCK_LAYOUT: Readonly<Record<TensorType, { elements: number; bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q8_0: { elements: 32, bytes: 34 },
};

/** ggml.h, enum ggml_type: number in the file to name. */
const GGML_TYPE_NAMES: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  30: 'BF16',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** The readable type of this GGML number, or null. */
export function tensorTypeOf(ggmlType: number): TensorType | null {
  const name = GGML_TYPE_NAMES[ggmlType];
  return name !== undefined && name in BLOCK_LAYOUT ? (name as TensorType) : null;
}

/** GGML's name of a type, readable or not. */
export function ggmlTypeName(ggmlType: number): string {
  return GGML_TYPE_NAMES[ggmlType] ?? `unknown type ${ggmlType}`;
}

/** GGML's number of a readable type. */
export function ggmlTypeOf(type: TensorType): number {
  return Number(Object.entries(GGML_TYPE_NAMES).find(([, name]) => name === type)?.[0]);
}

/** Bytes of one row of `cols` elements. `cols` must be whole blocks. */
export function rowByteLength(type: TensorType, cols: number): number {
  const { elements, bytes } = BLOCK_LAYOUT[type];
  invariant(cols % elements === 0, 'a row holds whole blocks', { type, cols });
  return (cols / elements) * bytes;
}
