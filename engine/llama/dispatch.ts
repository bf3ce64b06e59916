// A step as a list of dispatches, built once: pipelines and bind groups are fixed, only the number of tokens and wanted rows changes. Encoding
// a step walks the list and allocates nothing.
import { TOKEN_GROUP } from '../../wgsl/matmul/variant.ts';

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
  /** For one or two rows, and for more: the same bits. */
  single: GPUComputePipeline;
  quad: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  rows: Rows;
  workgroups: number;
  /** Bytes of x and of out per group of 16 rows. */
  xGroupBytes: number;
  outGroupBytes: number;
}

export type Dispatch = RowDispatch | MatmulDispatch;

const offsets = [0, 0];

export function encode(
  pass: GPUComputePassEncoder,
  dispatches: readonly Dispatch[],
  counts: Readonly<Record<Rows, number>>,
): void {
  for (const dispatch of dispatches) {
    const rows = counts[dispatch.rows];
    if (rows === 0) continue;
    if (dispatch.type === 'matmul') encodeMatmul(pass, dispatch, rows);
    else {
      pass.setPipeline(dispatch.pipeline);
      pass.setBindGroup(0, dispatch.bindGroup);
      if (dispatch.rowsAlongY) pass.dispatchWorkgroups(dispatch.unitsPerRow, rows);
      else pass.dispatchWorkgroups(Math.ceil((rows * dispatch.unitsPerRow) / dispatch.lanes));
    }
  }
}

/** Rows beyond the last are computed on whatever stands there and land in padding: buffers hold whole groups of 16. */
function encodeMatmul(pass: GPUComputePassEncoder, dispatch: MatmulDispatch, rows: number): void {
  for (let first = 0; first < rows; first += TOKEN_GROUP) {
    const count = Math.min(rows - first, TOKEN_GROUP);
    const group = first / TOKEN_GROUP;
    offsets[0] = group * dispatch.xGroupBytes;
    offsets[1] = group * dispatch.outGroupBytes;
    const few = count <= 2;
    pass.setPipeline(few ? dispatch.single : dispatch.quad);
    pass.setBindGroup(0, dispatch.bindGroup, offsets);
    pass.dispatchWorkgroups(dispatch.workgroups, few ? count : Math.ceil(count / 4));
  }
}
