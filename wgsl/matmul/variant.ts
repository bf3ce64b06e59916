// Which form of the matrix kernel: the choices that its template takes. All variants of the same kind and activations give the same bits.
import { LANE_GROUP, type WeightKind } from './layout.ts';

export type Activations = 'int8' | 'f32';

/** Tokens per lane that there are variants for. */
export const COLUMNS = [1, 2, 3, 4] as const;
export type Columns = (typeof COLUMNS)[number];

/**
 * What a lane's work costs with 1, 2, 3, 4 columns, in any unit, where nothing was measured: loading and unpacking weights as much as two
 * columns of arithmetic. On lavapipe, for 4 and 8 bits, they take 162, 216, 265 and 329 µs (2048 × 1024 in Q4_1).
 */
export const COLUMN_COSTS: readonly number[] = COLUMNS.map((columns) => 2 + columns);

/**
 * The cheapest number of columns for `rows` tokens, the last group padded, of those that `available` has something for at columns - 1; of equals the
 * largest.
 */
export function columnsFor(
  rows: number,
  available: readonly unknown[] = COLUMNS,
  costs: readonly number[] = COLUMN_COSTS,
): Columns {
  let best: Columns = 1;
  let least = Number.POSITIVE_INFINITY;
  for (const columns of COLUMNS) {
    const cost = Math.ceil(rows / columns) * costs[columns - 1]!;
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
  /** Lanes of a subgroup when one load of x is shared by broadcast, otherwise null. */
  subgroup: BroadcastLanes | null;
  /** Of a workgroup; a multiple of `subgroup` and of LANE_GROUP. */
  lanes: number;
}

/** Subgroups that broadcasts can be written for. */
const BROADCAST_LANES = [64, 32, 16, 8, 4] as const;
export type BroadcastLanes = (typeof BROADCAST_LANES)[number];

/** vec4 per token and block of x. */
export const X_PARTS: Record<Activations, number> = { int8: 5, f32: 8 };

/** Tokens that share one dynamic offset of x and out. 16 · 80 bytes is a multiple of 256 for any number of blocks. */
export const TOKEN_GROUP = 16;

/** Tokens, the last group filled up. */
export const wholeGroups = (tokens: number): number => Math.ceil(tokens / TOKEN_GROUP) * TOKEN_GROUP;

/** The subgroup size as broadcasts can be written for it, or null. */
export const broadcastLanes = (subgroupSize: number | null): BroadcastLanes | null =>
  BROADCAST_LANES.find((lanes) => lanes === subgroupSize) ?? null;

export const variantLabel = (v: MatmulVariant): string =>
  `matmul ${v.kind} ${v.activations} ${v.columns} ${formLabel(v)}`;

/** What a variant is beside kind, activations and columns. */
export const formLabel = ({ weights, x, subgroup, lanes }: MatmulForm): string =>
  `${weights} x-${x} subgroup-${subgroup ?? 'none'} lanes-${lanes}`;

export type MatmulForm = Pick<MatmulVariant, 'weights' | 'x' | 'subgroup' | 'lanes'>;

/** Lanes of a workgroup of storage weights where nothing was measured. */
const STORAGE_LANES = 64;

/** What the adapter takes for a matrix laid out for `weights` where nothing was measured. `xFits`: a group of x fits a uniform window. */
export function formByRule(weights: MatmulForm['weights'], xFits: boolean, gpu: FormAdapter): MatmulForm {
  const subgroup = weights === 'uniform' ? broadcastLanes(gpu.subgroupSize) : null;
  const lanes = weights === 'uniform' ? Math.max(LANE_GROUP, subgroup ?? 0) : STORAGE_LANES;
  return { weights, x: gpu.software && xFits ? 'uniform' : 'storage', subgroup, lanes };
}

/**
 * Forms that can multiply a matrix of that layout, the rule's first. A software adapter pays seconds for compiling and has few that could be faster: x
 * loaded by each lane, and windows that are read as storage. On hardware it is the workgroup and the sharing of x that differ.
 */
export function formsOf(weights: MatmulForm['weights'], xFits: boolean, gpu: FormAdapter): MatmulForm[] {
  const rule = formByRule(weights, xFits, gpu);
  const broadcast = broadcastLanes(gpu.subgroupSize);
  const others: MatmulForm[] = [];
  if (weights === 'uniform') {
    others.push({ ...rule, subgroup: null, lanes: LANE_GROUP });
    others.push({ ...rule, weights: 'storage', subgroup: broadcast, lanes: Math.max(LANE_GROUP, broadcast ?? 0) });
  } else if (gpu.software) others.push({ ...rule, subgroup: broadcast });
  else
    for (const subgroup of new Set([null, broadcast]))
      for (const lanes of [32, 64, 128, 256])
        if (lanes <= gpu.maxLanes && lanes % (subgroup ?? 1) === 0) others.push({ ...rule, subgroup, lanes });
  const labels = new Set([formLabel(rule)]);
  return [rule, ...others.filter((form) => !labels.has(formLabel(form)) && labels.add(formLabel(form)))];
}

/** What of an adapter decides which forms it has. */
export interface FormAdapter {
  software: boolean;
  subgroupSize: number | null;
  /** Of a workgroup, at most. */
  maxLanes: number;
}
