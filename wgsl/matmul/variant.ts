// Which form of the matrix kernel: the choices that its template takes. All variants of the same kind and activations give the same bits.
import { LANE_GROUP, type WeightKind } from './layout.ts';

export type Activations = 'int8' | 'f32';

/** Tokens per lane that there are variants for. */
export const COLUMNS = [1, 2, 3, 4] as const;
export type Columns = (typeof COLUMNS)[number];

/**
 * The cheapest variant for `rows` tokens, the last group padded, of those that `available` has something for at columns - 1. Loading and unpacking weights costs as much as two columns of arithmetic: measured on
 * lavapipe for 4 and 8 bits, where 1, 2, 3 and 4 columns take 162, 216, 265 and 329 µs (2048 × 1024 in Q4_1).
 */
export function columnsFor(rows: number, available: readonly unknown[] = COLUMNS): Columns {
  let best: Columns = 1;
  let least = Number.POSITIVE_INFINITY;
  for (const columns of COLUMNS) {
    const cost = Math.ceil(rows / columns) * (2 + columns);
    if (!available[columns - 1] || cost > least) continue;
    best = columns;
    least = cost;
  }
  return best;
}

export interface MatmulVariant {
  kind: WeightKind;
  activations: Activations;
  /** Tokens per lane: weights are loaded once for all of them. */
  columns: Columns;
  /** `uniform`: ten windows of at most 64 KiB; `storage`: the tile as one storage buffer. */
  weights: 'uniform' | 'storage';
  /** x fits the uniform window of a group of 16 tokens. */
  x: 'uniform' | 'storage';
  /** Lanes of a subgroup when one load of x can be shared by broadcast, otherwise null. */
  subgroup: 16 | 8 | 4 | null;
}

/** vec4 per token and block of x. */
export const X_PARTS: Record<Activations, number> = { int8: 5, f32: 8 };

/** Tokens that share one dynamic offset of x and out. 16 · 80 bytes is a multiple of 256 for any number of blocks. */
export const TOKEN_GROUP = 16;

/** The subgroup size that broadcasts can be written for, or null. */
export const broadcastLanes = (subgroupSize: number | null): MatmulVariant['subgroup'] =>
  subgroupSize === 16 || subgroupSize === 8 || subgroupSize === 4 ? subgroupSize : null;

export const workgroupLanes = (variant: MatmulVariant): number =>
  variant.weights === 'uniform' ? Math.max(LANE_GROUP, variant.subgroup ?? 0) : 64;

export const variantLabel = (v: MatmulVariant): string =>
  `matmul ${v.kind} ${v.activations} ${v.columns} ${v.weights} x-${v.x} subgroup-${v.subgroup ?? 'none'}`;
