// A weight matrix in GPU memory: one or several tensors of the same kind, one under another (q, k and v; gate and up). Decides how it is laid out
// and which buffers it is cut into; weightStream.ts fills them.
import {
  layoutMatrix,
  type MatrixLayout,
  ROWS_PER_LANE,
  UNIFORM_WINDOW_BYTES,
  type WeightKind,
} from '../../wgsl/matmul/layout.ts';
import { KIND_OF } from '../../wgsl/matmul/pack.ts';
import { invariant } from '../invariant.ts';
import type { TensorInfo } from '../model/types.ts';

/** Tiles [firstTile, firstTile + tiles) in one buffer, which one storage binding can hold. */
export interface MatrixPart {
  buffer: GPUBuffer;
  firstTile: number;
  tiles: number;
}

export interface Matrix {
  layout: MatrixLayout;
  weights: 'uniform' | 'storage';
  parts: MatrixPart[];
}

export interface MatrixOptions {
  /** Prefer windows that bind as uniform buffers. */
  uniformWindows: boolean;
  /** Largest storage binding and buffer; at most the device's limit. */
  maxBindingBytes: number;
}

export const kindOf = (tensor: TensorInfo): WeightKind => KIND_OF[tensor.type];

/** Splits tensors, in order, into runs of equal kind: each run can be one matrix. */
export function runsOfEqualKind(tensors: readonly TensorInfo[]): TensorInfo[][] {
  const runs: TensorInfo[][] = [];
  for (const tensor of tensors) {
    const last = runs.at(-1);
    if (last?.[0] && kindOf(last[0]) === kindOf(tensor)) last.push(tensor);
    else runs.push([tensor]);
  }
  return runs;
}

/** Bytes behind the last tile, so that a whole uniform window can be bound at the last scale window. */
const TAIL_BYTES = UNIFORM_WINDOW_BYTES;

/** Lays `tensors` (equal kind and cols) out as one matrix and allocates its buffers. */
export function allocateMatrix(device: GPUDevice, tensors: readonly TensorInfo[], options: MatrixOptions): Matrix {
  const first = tensors[0];
  invariant(first, 'a matrix needs a tensor');
  const rows = tensors.reduce((sum, tensor) => sum + tensor.rows, 0);
  const limit = options.maxBindingBytes - TAIL_BYTES;
  const matrix = chooseLayout(kindOf(first), rows, first.cols, options.uniformWindows, limit);
  const { tiles, tileBytes } = matrix.layout;
  const tilesPerPart = Math.floor(limit / tileBytes);
  invariant(tilesPerPart > 0, 'a tile fits a binding', { tileBytes, limit });
  for (let firstTile = 0; firstTile < tiles; firstTile += tilesPerPart) {
    const count = Math.min(tilesPerPart, tiles - firstTile);
    const buffer = device.createBuffer({
      label: `${first.name} tiles ${firstTile}-${firstTile + count - 1}`,
      size: count * tileBytes + TAIL_BYTES,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
    });
    matrix.parts.push({ buffer, firstTile, tiles: count });
  }
  return matrix;
}

function chooseLayout(kind: WeightKind, rows: number, cols: number, uniformWindows: boolean, limit: number): Matrix {
  const uniform = uniformWindows ? layoutMatrix(kind, rows, cols, UNIFORM_WINDOW_BYTES) : null;
  if (uniform) return { layout: uniform, weights: 'uniform', parts: [] };
  // 8 quant windows and 2 scale windows that are never larger: a tile of ten windows fits the binding.
  const storage = layoutMatrix(kind, rows, cols, Math.floor(limit / (ROWS_PER_LANE + 2) / 256) * 256);
  invariant(storage, 'a lane of this matrix is larger than a storage binding', { kind, rows, cols, limit });
  return { layout: storage, weights: 'storage', parts: [] };
}
