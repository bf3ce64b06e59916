// A matrix as dispatches of the matrix kernel: one for each tile, whatever form of the kernel it is.
import { EPILOGUE_BINDING, type Epilogue } from '../../wgsl/matmul/epilogue.ts';
import { tileParams, tileWorkgroups, windowBindings } from '../../wgsl/matmul/host.ts';
import { type MatrixLayout, TOKEN_GROUP, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import { type Activations, type MatmulForm, X_PARTS } from '../../wgsl/matmul/variant.ts';
import { type Binding, resourceOf } from './dispatch.ts';
import type { MatrixPart } from './matrix.ts';
import type { Pipelines } from './pipelines.ts';

/** Bytes of x for a group of 16 tokens. */
export const xGroupBytesOf = (blocks: number, activations: Activations): number =>
  TOKEN_GROUP * blocks * X_PARTS[activations] * 16;

export interface TileDispatch {
  bindGroup: GPUBindGroup;
  /** Along x. */
  workgroups: number;
}

export interface TileOptions {
  layout: MatrixLayout;
  activations: Activations;
  form: MatmulForm;
  /** Activations, with a uniform window's room behind the last group. */
  x: GPUBuffer;
  /** As the epilogue has it; the matrix' rows begin at `firstRow`. By default [token][outStride] f32. */
  out: GPUBuffer;
  firstRow: number;
  outStride: number;
  /** Bytes of out per group of 16 tokens; default: of f32. */
  outGroupBytes?: number;
  /** Groups of 16 tokens that are bound at once; default 1. */
  groups?: number;
  epilogue?: Epilogue;
  /** Of the epilogue. */
  bindings?: readonly Binding[];
}

/** Tiles of a part, in order; `most`: of them at most. */
export function tileDispatches(
  pipelines: Pipelines,
  { buffer, firstTile, tiles }: MatrixPart,
  {
    layout,
    activations,
    form,
    x,
    out,
    firstRow,
    outStride,
    outGroupBytes,
    groups = 1,
    epilogue,
    bindings = [],
  }: TileOptions,
  most = tiles,
): TileDispatch[] {
  const { device } = pipelines;
  const xSize = form.x === 'uniform' ? UNIFORM_WINDOW_BYTES : groups * xGroupBytesOf(layout.blocks, activations);
  const outSize = groups * (outGroupBytes ?? TOKEN_GROUP * outStride * 4);
  return Array.from({ length: Math.min(tiles, most) }, (_, index) => {
    const words = tileParams(layout, firstTile + index, firstRow, outStride);
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    const params = device.createBuffer({ label: 'matmul params', size: 32, usage });
    device.queue.writeBuffer(params, 0, words);
    const entries = [
      ...windowBindings(buffer, index * layout.tileBytes, layout, form.weights),
      { binding: 10, resource: { buffer: x, size: xSize } },
      { binding: 11, resource: { buffer: out, size: outSize } },
      { binding: 12, resource: { buffer: params } },
      ...bindings.map((bound, i) => ({ binding: EPILOGUE_BINDING + i, resource: resourceOf(bound) })),
    ];
    const bindGroupLayout = pipelines.matmulLayout({ kind: layout.kind, ...form }, epilogue);
    return {
      bindGroup: device.createBindGroup({ layout: bindGroupLayout, entries }),
      workgroups: tileWorkgroups(form, layout, firstTile + index),
    };
  });
}
