// What becomes of a lane's eight sums of a token. They are stored as they are, unless an operation that follows takes them while they are in
// registers: rotation and the KV write (wgsl/rope), SiLU(gate)·up and quantisation (wgsl/quantize). Its bits are those of the kernel that it saves.
import type { MatmulVariant } from './variant.ts';

/** Bindings beside the matrix kernel's own. */
export const EPILOGUE_BINDING = 13;

export interface EpilogueBinding {
  type: 'storage' | 'read-only-storage';
  /** Whether it moves by dynamic offset, from group to group of 16 tokens. */
  grouped: boolean;
}

export interface Epilogue {
  /** Part of a pipeline's label; names everything that its text depends on beside the variant. */
  label: string;
  /** In order, from EPILOGUE_BINDING on. */
  bindings: readonly EpilogueBinding[];
  /** Whether lanes of a group of 8 see each other's sums: then none leaves before the end. */
  exchanges: boolean;
  /** WGSL type of the elements of `out`. */
  outType: string;
  /**
   * WGSL at module scope: its bindings and `takeRows(local: u32, live: bool, token: u32, row: u32, a: vec4f, b: vec4f)`, which every lane calls in
   * uniform control flow with rows `row` to `row + 7` of a token of the group; `live`: whether it has any.
   */
  declarations(variant: Pick<MatmulVariant, 'subgroup' | 'lanes'>): string;
}

/** out: [token][outStride / 4]. */
export const STORE: Epilogue = {
  ...{ label: '', bindings: [], exchanges: false, outType: 'vec4f' },
  declarations: () => `
fn takeRows(local: u32, live: bool, token: u32, row: u32, a: vec4f, b: vec4f) {
  if (!live) { return; }
  let at = (token * p.outStride + row) / 4u;
  out[at] = a;
  out[at + 1u] = b;
}`,
};
