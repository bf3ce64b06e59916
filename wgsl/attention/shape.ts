// What the kernels of attention and of the KV write have to agree on: the heads of a model, and how they are dealt out to workgroups.

export interface KvShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  ropeDim: number;
}

/** Lanes that share one unit of work, on every adapter: the sums, and so the bits, are laid out over them. */
export const ATTENTION_LANES = 8;
/** Positions of the context between two updates of the running maximum, counted from position 0: a KV block. */
export const CONTEXT_TILE = 16;
/** Positions, counted from 0, whose softmax is closed before it is merged with what came before. */
export const CONTEXT_SPLIT = 512;
/** Query heads per unit of work: more would not fit in registers. */
export const MAX_GROUP = 4;

/** Query heads that one unit serves: the largest divisor of the GQA group within MAX_GROUP. */
export function headsPerUnit({ heads, kvHeads }: KvShape): number {
  const group = heads / kvHeads;
  for (let size = Math.min(group, MAX_GROUP); size > 1; size--) if (group % size === 0) return size;
  return 1;
}

/** Chunks of 8 dims per lane. */
export const spansOf = ({ headDim }: KvShape): number => Math.ceil(headDim / 8 / ATTENTION_LANES);

/** Units that fill a subgroup, side by side for other heads; null where a subgroup can't hold one and workgroup memory has to serve. */
export function unitsOf(shape: KvShape, subgroupSize: number | null): number | null {
  if (!subgroupSize || subgroupSize % ATTENTION_LANES) return null;
  return Math.min(subgroupSize / ATTENTION_LANES, shape.heads / headsPerUnit(shape));
}

/**
 * Consecutive rows of a sequence that share a unit's loads. Each takes three registers of 8 floats per head and span in every lane.
 * lavapipe keeps them in its first cache: 8 rows of 3 heads run 2.3 times as fast there as 8 times one (4 rows 2 times, at half the 2 s of
 * compile time). A GPU has 255 registers; and where workgroup memory serves, lavapipe's compiler takes seconds per row.
 */
export function queryRows(shape: KvShape, gpu: { software: boolean; subgroupSize: number | null }): number {
  const room = gpu.software && unitsOf(shape, gpu.subgroupSize) ? 32 : 8;
  const rows = room / (headsPerUnit(shape) * spansOf(shape));
  return rows >= 8 ? 8 : rows >= 4 ? 4 : 2;
}
