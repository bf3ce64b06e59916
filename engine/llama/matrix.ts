// A weight matrix in GPU memory: one or several tensors of the same kind, one under another (q, k and v; gate and up), repacked tile by
// tile straight from the file. Never more than one tile is on the host.
import {
  layoutMatrix,
  type MatrixLayout,
  ROWS_PER_LANE,
  UNIFORM_WINDOW_BYTES,
  type WeightKind,
} from '../../wgsl/matmul/layout.ts';
import { KIND_OF, packRows, sourceRowBytes } from '../../wgsl/matmul/pack.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile, TensorInfo } from '../model/types.ts';

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

function chooseLayout(
  device: GPUDevice,
  kind: WeightKind,
  rows: number,
  cols: number,
  uniformWindows: boolean,
): Matrix {
  const uniform = uniformWindows ? layoutMatrix(kind, rows, cols, UNIFORM_WINDOW_BYTES) : null;
  if (uniform) return { layout: uniform, weights: 'uniform', parts: [] };
  const limit = device.limits.maxStorageBufferBindingSize - TAIL_BYTES;
  // 8 quant windows and 2 scale windows that are never larger: a tile of ten windows fits the binding.
  const storage = layoutMatrix(kind, rows, cols, Math.floor(limit / 10 / 256) * 256);
  invariant(storage, 'a lane of this matrix is larger than a storage binding', { kind, rows, cols, limit });
  return { layout: storage, weights: 'storage', parts: [] };
}

/** Uploads `tensors` (equal kind and cols) as one matrix. `uniformWindows`: prefer windows that bind as uniform buffers. */
export async function uploadMatrix(
  device: GPUDevice,
  file: ModelFile,
  tensors: readonly TensorInfo[],
  uniformWindows: boolean,
  onBytes: (bytes: number) => void,
): Promise<Matrix> {
  const first = tensors[0];
  invariant(first, 'a matrix needs a tensor');
  const rows = tensors.reduce((sum, tensor) => sum + tensor.rows, 0);
  const matrix = chooseLayout(device, kindOf(first), rows, first.cols, uniformWindows);
  const { layout } = matrix;
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize) - TAIL_BYTES;
  const tilesPerPart = Math.floor(limit / layout.tileBytes);
  const rowsPerTile = layout.lanes * ROWS_PER_LANE;
  const staging = new Uint32Array(layout.tileBytes / 4);
  for (let firstTile = 0; firstTile < layout.tiles; firstTile += tilesPerPart) {
    const tiles = Math.min(tilesPerPart, layout.tiles - firstTile);
    const buffer = device.createBuffer({
      label: `${first.name} tiles ${firstTile}-${firstTile + tiles - 1}`,
      size: tiles * layout.tileBytes + TAIL_BYTES,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    matrix.parts.push({ buffer, firstTile, tiles });
    for (let tile = firstTile; tile < firstTile + tiles; tile++) {
      staging.fill(0);
      await packTile(file, tensors, layout, tile, rowsPerTile, staging, onBytes);
      device.queue.writeBuffer(buffer, (tile - firstTile) * layout.tileBytes, staging);
    }
  }
  return matrix;
}

async function packTile(
  file: ModelFile,
  tensors: readonly TensorInfo[],
  layout: MatrixLayout,
  tile: number,
  rowsPerTile: number,
  staging: Uint32Array,
  onBytes: (bytes: number) => void,
): Promise<void> {
  let tensorFirstRow = 0;
  for (const tensor of tensors) {
    const from = Math.max(tile * rowsPerTile, tensorFirstRow);
    const to = Math.min((tile + 1) * rowsPerTile, tensorFirstRow + tensor.rows);
    if (from < to) {
      const rowBytes = sourceRowBytes(layout, tensor.type);
      const source = new Uint8Array((to - from) * rowBytes);
      await file.read(tensor, (from - tensorFirstRow) * rowBytes, source);
      packRows(layout, tensor.type, source, from, to - from, staging, tile);
      onBytes(source.byteLength);
    }
    tensorFirstRow += tensor.rows;
  }
}

export function matrixBytes(matrix: Matrix): number {
  return matrix.parts.reduce((sum, part) => sum + part.buffer.size, 0);
}
