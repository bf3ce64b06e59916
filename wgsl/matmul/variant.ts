// Which form of the matrix kernel: the choices that its template takes. All variants of the same kind and activations give the same bits.
import { LANE_GROUP, TOKEN_GROUP, type WeightKind } from './layout.ts';
import { slicedBytes } from './sliced.ts';

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
  /** Tokens per lane: weights are loaded once for all of them. Eight: for many rows on a GPU, which has the registers. */
  columns: Columns | 8;
  /** `uniform`: ten windows of at most 64 KiB; `storage`: the tile as one storage buffer. */
  weights: 'uniform' | 'storage';
  /** x fits the uniform window of a group of 16 tokens. */
  x: 'uniform' | 'storage';
  /** Lanes of a subgroup when one load of x is shared by broadcast, otherwise null. */
  subgroup: BroadcastLanes | null;
  /** Of a workgroup; a multiple of `subgroup` and of LANE_GROUP. */
  lanes: number;
  /**
   * Lanes that share a row's blocks (sliced K), of workgroups of one LANE_GROUP times that: their products meet in workgroup memory and are added in
   * the order of a single lane. 1: a lane goes through all blocks. With storage weights and x alone.
   */
  slices: number;
}

/** Subgroups that broadcasts can be written for. */
const BROADCAST_LANES = [64, 32, 16, 8, 4] as const;
export type BroadcastLanes = (typeof BROADCAST_LANES)[number];

/** vec4 per token and block of x. */
export const X_PARTS: Record<Activations, number> = { int8: 5, f32: 8 };

/** Tokens, the last group filled up. */
export const wholeGroups = (tokens: number): number => Math.ceil(tokens / TOKEN_GROUP) * TOKEN_GROUP;

/** The subgroup size as broadcasts can be written for it, or null. */
export const broadcastLanes = (subgroupSize: number | null): BroadcastLanes | null =>
  BROADCAST_LANES.find((lanes) => lanes === subgroupSize) ?? null;

export const variantLabel = (v: MatmulVariant): string =>
  `matmul ${v.kind} ${v.activations} ${v.columns} ${formLabel(v)}`;

/** What a variant is beside kind, activations and columns. */
export const formLabel = ({ weights, x, subgroup, lanes, slices }: MatmulForm): string =>
  `${weights} x-${x} ${slices > 1 ? `slices-${slices}` : `subgroup-${subgroup ?? 'none'} lanes-${lanes}`}`;

export type MatmulForm = Pick<MatmulVariant, 'weights' | 'x' | 'subgroup' | 'lanes' | 'slices'>;

/** Whether a dispatch can have all rows of a step: no uniform window bounds what it sees of x. */
export const takesAllRows = ({ weights, x }: MatmulForm): boolean => weights === 'storage' && x === 'storage';

/** What a GPU takes for so many rows and more, where the tuner's choice, which is made for few, waits less for memory than it waits for barriers. */
export interface ManyRows {
  form: MatmulForm;
  columns: Columns | 8;
  fromRows: number;
}

/** Lanes that keep a large GPU busy without slices. */
const MANY_LANES = 24_576;

/**
 * For a matrix of `lanes` lanes, by ascending rows; none: the same for any number. Measured on an H100 (`npm run bench:kernels forms`): 3072 × 576 by 64
 * rows takes 18 µs with 8 slices, 24 with 24, 37 with none; by 256 rows 55, 86, 42.
 */
export function manyRowsByRule(few: MatmulForm, lanes: number): ManyRows[] {
  if (few.slices === 1) return [];
  const columns = 4;
  const whole = { ...few, lanes: 64, slices: 1 };
  return [
    { form: sliced(8), columns, fromRows: TOKEN_GROUP + 1 },
    { form: whole, columns, fromRows: Math.max(TOKEN_GROUP + 1, columns * Math.ceil(MANY_LANES / lanes)) },
  ];
}

/** Slices that there are forms with, the rule's first: a GPU waits for memory, and the more lanes load at once the less often. */
const SLICES = [16, 24, 8, 4] as const;
/** Workgroups without slices, of storage weights. */
const STORAGE_LANES = [32, 64, 128, 256] as const;

/** What the adapter takes for a matrix laid out for `weights` where nothing was measured. `xFits`: a group of x fits a uniform window. */
export function formByRule(weights: MatmulForm['weights'], xFits: boolean, gpu: FormAdapter): MatmulForm {
  const x = gpu.software && xFits ? 'uniform' : 'storage';
  if (weights === 'storage') {
    const slices = SLICES.find((count) => slicesFit(count, gpu));
    return slices && x === 'storage' ? sliced(slices) : { weights, x, subgroup: null, lanes: 64, slices: 1 };
  }
  const subgroup = broadcastLanes(gpu.subgroupSize);
  return { weights, x, subgroup, lanes: Math.max(LANE_GROUP, subgroup ?? 0), slices: 1 };
}

const sliced = (slices: number): MatmulForm => ({
  ...{ weights: 'storage', x: 'storage', subgroup: null, lanes: LANE_GROUP * slices, slices },
});

/** A software adapter runs lanes one after another, and barriers cost it dearly. */
const slicesFit = (slices: number, { software, maxLanes, workgroupBytes }: FormAdapter): boolean =>
  !software && LANE_GROUP * slices <= maxLanes && slicedBytes(slices, Math.max(...COLUMNS)) <= workgroupBytes;

/**
 * Forms that can multiply a matrix of that layout, the rule's first. A software adapter pays seconds for compiling and has few that could be faster: x
 * loaded by each lane, and windows that are read as storage. On hardware it is the slices, the workgroup and the sharing of x that differ.
 */
export function formsOf(weights: MatmulForm['weights'], xFits: boolean, gpu: FormAdapter): MatmulForm[] {
  const rule = formByRule(weights, xFits, gpu);
  const broadcast = broadcastLanes(gpu.subgroupSize);
  const others: MatmulForm[] = [];
  if (weights === 'uniform') {
    others.push({ ...rule, subgroup: null, lanes: LANE_GROUP });
    others.push({ ...rule, weights: 'storage', subgroup: broadcast, lanes: Math.max(LANE_GROUP, broadcast ?? 0) });
  } else if (gpu.software) others.push({ ...rule, subgroup: broadcast });
  else {
    others.push(...SLICES.filter((slices) => slicesFit(slices, gpu)).map(sliced));
    for (const subgroup of new Set([null, broadcast]))
      for (const lanes of STORAGE_LANES)
        if (lanes <= gpu.maxLanes && lanes % (subgroup ?? 1) === 0)
          others.push({ weights, x: rule.x, subgroup, lanes, slices: 1 });
  }
  const labels = new Set([formLabel(rule)]);
  return [rule, ...others.filter((form) => !labels.has(formLabel(form)) && labels.add(formLabel(form)))];
}

/** What of an adapter decides which forms it has. */
export interface FormAdapter {
  software: boolean;
  subgroupSize: number | null;
  /** Of a workgroup, at most; and bytes of its memory. */
  maxLanes: number;
  workgroupBytes: number;
}
