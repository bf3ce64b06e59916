// Which form of the matrix kernel: the choices that its template takes. All variants of the same kind and activations give the same bits.
import { LANE_GROUP, type WeightKind } from './layout.ts';

export type Activations = 'int8' | 'f32';

export interface MatmulVariant {
  kind: WeightKind;
  activations: Activations;
  /** Tokens per lane: weights are loaded once for all of them. */
  columns: 1 | 4;
  /** `uniform`: ten windows of at most 64 KiB; `storage`: the tile as one storage buffer. */
  weights: 'uniform' | 'storage';
  /** x fits the uniform window of a group of 16 tokens. */
  x: 'uniform' | 'storage';
  /** Lanes of a subgroup when one load of x can be shared by broadcast, otherwise null. */
  subgroup: 8 | 4 | null;
}

/** vec4 per token and block of x. */
export const X_PARTS: Record<Activations, number> = { int8: 5, f32: 8 };

/** Tokens that share one dynamic offset of x and out. 16 · 80 bytes is a multiple of 256 for any number of blocks. */
export const TOKEN_GROUP = 16;

export const workgroupLanes = (variant: MatmulVariant): number => (variant.weights === 'uniform' ? LANE_GROUP : 64);

export const variantLabel = (v: MatmulVariant): string =>
  `matmul ${v.kind} ${v.activations} ${v.columns} ${v.weights} x-${v.x} subgroup-${v.subgroup ?? 'none'}`;
