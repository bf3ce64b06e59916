// The host's side of the matrix kernel: what to bind for a tile, its parameters, its workgroups.
import { hasScales, LANE_GROUP, type MatrixLayout, ROWS_PER_LANE, UNIFORM_WINDOW_BYTES } from './layout.ts';
import type { MatmulForm, MatmulVariant } from './variant.ts';

type Weights = MatmulVariant['weights'];

/** The tile at byte `at`: ten (or eight) overlapping uniform windows of 64 KiB, of which only the layout's part is read, or one storage binding. */
export function windowBindings(
  buffer: GPUBuffer,
  at: number,
  layout: MatrixLayout,
  weights: Weights,
): GPUBindGroupEntry[] {
  if (weights === 'storage') return [{ binding: 0, resource: { buffer, offset: at, size: layout.tileBytes } }];
  const offsets = Array.from({ length: ROWS_PER_LANE }, (_, window) => at + window * layout.windowBytes);
  const scales = at + ROWS_PER_LANE * layout.windowBytes;
  if (hasScales(layout.kind)) offsets.push(scales, scales + layout.scaleBytes);
  return offsets.map((offset, binding) => ({ binding, resource: { buffer, offset, size: UNIFORM_WINDOW_BYTES } }));
}

/** Lanes of a tile that hold rows: all, except in the last. */
export function tileLanes(layout: MatrixLayout, tile: number): number {
  return Math.min(layout.lanes, Math.ceil((layout.rows - tile * layout.lanes * ROWS_PER_LANE) / ROWS_PER_LANE));
}

/** The shader's Params for a tile; `firstRow`: where the matrix begins in a row of out; `outStride`: rows of out per token. */
export function tileParams(
  layout: MatrixLayout,
  tile: number,
  firstRow: number,
  outStride: number,
): Uint32Array<ArrayBuffer> {
  return Uint32Array.of(
    layout.blocks,
    tileLanes(layout, tile),
    firstRow + tile * layout.lanes * ROWS_PER_LANE,
    firstRow + layout.rows,
    outStride,
    layout.windowBytes / 16,
    layout.scaleBytes / 16,
  );
}

/** Workgroups along x for a tile. Lanes of a subgroup stay whole, even where they hold no row. */
export function tileWorkgroups(form: MatmulForm, layout: MatrixLayout, tile: number): number {
  const lanes = Math.ceil(tileLanes(layout, tile) / LANE_GROUP) * LANE_GROUP;
  return Math.ceil((lanes * form.slices) / form.lanes);
}
