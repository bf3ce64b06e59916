// A step as a list of dispatches, built once: pipelines and bind groups are fixed, only the number of tokens and wanted rows changes. Encoding
// a step walks the list and allocates nothing.

import { TOKEN_GROUP } from '../../wgsl/matmul/layout.ts';
import type { Columns } from '../../wgsl/matmul/variant.ts';
import type { TileDispatch } from './matmulDispatches.ts';
import type { MatmulFamily } from './matmulFamily.ts';

/** Which rows a dispatch works on: every token of the step, those whose logits are wanted, or attention's work items of either kind. */
export type Rows = 'tokens' | 'wanted' | 'queryTiles' | 'singleQueries';

export interface RowDispatch {
  type: 'rows';
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  rows: Rows;
  /** Workgroups along x: ceil(rows · unitsPerRow / lanes); along y: rows when `rowsAlongY`, with x = unitsPerRow. */
  unitsPerRow: number;
  lanes: number;
  rowsAlongY: boolean;
}

export interface MatmulDispatch {
  type: 'matmul';
  family: MatmulFamily;
  tiles: readonly TileDispatch[];
  rows: Rows;
  /** Bytes per group of 16 rows of x, of out, and of what else moves from group to group, in order of their bindings. */
  groupBytes: readonly number[];
  /** All rows of a step are bound at once, for one dispatch per tile. */
  whole: boolean;
  /** What then takes so many rows and more, by ascending rows. */
  many: readonly ManyRowsPipeline[];
}

export interface ManyRowsPipeline {
  pipeline: GPUComputePipeline;
  columns: number;
  fromRows: number;
  /** Per tile. */
  workgroups: readonly number[];
}

export interface Stage {
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  /** Along x, for each row. */
  workgroups: number;
}

/** Attention of single rows where a GPU has lanes to spare: each split of a long context in workgroups of its own, then their merge. */
export interface SplitDispatch {
  type: 'split';
  within: Stage;
  apart: Stage;
  merge: Stage;
  rows: Rows;
  /** Rows times splits that can be kept apart. A step with more goes through its splits one by one: the same bits. */
  capacity: number;
}

export type Dispatch = RowDispatch | MatmulDispatch | SplitDispatch;

/** Rows of a step by kind, and the splits of the longest context among its single queries. */
export interface StepCounts extends Record<Rows, number> {
  splits: number;
}

export function encode(
  pass: GPUComputePassEncoder,
  dispatches: readonly Dispatch[],
  counts: Readonly<StepCounts>,
): void {
  for (const dispatch of dispatches) {
    const rows = counts[dispatch.rows];
    if (rows === 0) continue;
    if (dispatch.type === 'matmul') encodeMatmul(pass, dispatch, rows);
    else if (dispatch.type === 'split') encodeSplit(pass, dispatch, rows, counts.splits);
    else {
      pass.setPipeline(dispatch.pipeline);
      pass.setBindGroup(0, dispatch.bindGroup);
      if (dispatch.rowsAlongY) pass.dispatchWorkgroups(dispatch.unitsPerRow, rows);
      else pass.dispatchWorkgroups(Math.ceil((rows * dispatch.unitsPerRow) / dispatch.lanes));
    }
  }
}

function encodeSplit(pass: GPUComputePassEncoder, dispatch: SplitDispatch, rows: number, splits: number): void {
  if (splits === 1 || rows * splits > dispatch.capacity) encodeStage(pass, dispatch.within, rows, 1);
  else {
    encodeStage(pass, dispatch.apart, rows, splits);
    encodeStage(pass, dispatch.merge, rows, 1);
  }
}

function encodeStage(pass: GPUComputePassEncoder, stage: Stage, rows: number, splits: number): void {
  pass.setPipeline(stage.pipeline);
  pass.setBindGroup(0, stage.bindGroup);
  pass.dispatchWorkgroups(stage.workgroups, rows, splits);
}

/** Filled anew for every dispatch; by length. */
const OFFSETS: number[][] = [0, 1, 2, 3].map((length) => new Array(length).fill(0));

/**
 * Rows beyond the last are computed on whatever stands there and land in padding: buffers hold whole groups of 16. Groups run within a tile, whose
 * weights are in a cache by then; or all rows at once.
 */
function encodeMatmul(pass: GPUComputePassEncoder, dispatch: MatmulDispatch, rows: number): void {
  const { family, tiles, groupBytes, whole } = dispatch;
  const offsets = OFFSETS[groupBytes.length]!;
  if (whole) {
    const many = dispatch.many.findLast(({ fromRows }) => rows >= fromRows);
    const columns = many?.columns ?? family.columnsForAll(rows);
    pass.setPipeline(many?.pipeline ?? family.pipeline(columns as Columns));
    for (let i = 0; i < tiles.length; i++) {
      const { bindGroup, workgroups } = tiles[i]!;
      pass.setBindGroup(0, bindGroup, offsets.fill(0));
      pass.dispatchWorkgroups(many?.workgroups[i] ?? workgroups, Math.ceil(rows / columns));
    }
    return;
  }
  let set: GPUComputePipeline | null = null;
  for (const { bindGroup, workgroups } of tiles)
    for (let first = 0; first < rows; first += TOKEN_GROUP) {
      const count = Math.min(rows - first, TOKEN_GROUP);
      const group = first / TOKEN_GROUP;
      for (let i = 0; i < groupBytes.length; i++) offsets[i] = group * groupBytes[i]!;
      const columns = family.columnsFor(count);
      const pipeline = family.pipeline(columns);
      if (pipeline !== set) pass.setPipeline(pipeline);
      set = pipeline;
      pass.setBindGroup(0, bindGroup, offsets);
      pass.dispatchWorkgroups(workgroups, Math.ceil(count / columns));
    }
}

export type Binding = GPUBuffer | GPUBufferBinding;

export const resourceOf = (bound: Binding): GPUBufferBinding => ('buffer' in bound ? bound : { buffer: bound });

/** A bind group of `bindings` 0, 1, 2, … of a pipeline whose layout was derived from its shader. */
export function bindInOrder(
  device: GPUDevice,
  pipeline: GPUComputePipeline,
  bindings: readonly Binding[],
): GPUBindGroup {
  const entries = bindings.map((bound, binding) => ({ binding, resource: resourceOf(bound) }));
  return device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
}
