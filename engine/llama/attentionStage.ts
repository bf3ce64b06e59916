// Attention of a layer as dispatches: query tiles in one, single queries in another, each skipped where a step has none of its kind. Where
// a GPU has lanes to spare, single queries over long contexts are spread over workgroups and merged.
import { mergeLabel, mergeShader, mergeWorkgroups, partialElements } from '../../wgsl/attention/merge.ts';
import {
  type AttentionVariant,
  attentionLabel,
  attentionShader,
  attentionWorkgroups,
} from '../../wgsl/attention/shader.ts';
import type { KvShape } from '../../wgsl/attention/shape.ts';
import { quantizesInPlace } from '../../wgsl/attention/spread.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';
import { type Binding, bindInOrder, type Dispatch, type Stage } from './dispatch.ts';
import type { Pipelines } from './pipelines.ts';
import type { MetadataField } from './stepMetadata.ts';

/** Rows times splits of 512 positions that are kept apart at once: 16 decodes at 32k. More are merged within. */
const SPLIT_ROWS = 1024;

export interface AttentionOptions {
  pipelines: Pipelines;
  shape: KvShape;
  /** For tiles of rows, and for single rows. */
  tiles: AttentionVariant;
  singles: AttentionVariant;
  /** What attention hands on: rows of f32, or activations of the next matrix where its variants can make them (`makesActivations`). */
  into: Activations | null;
  /** Binding of a field of the step's metadata. */
  field: (name: MetadataField) => GPUBufferBinding;
}

/** Whether every row goes through a kernel that can end with its activations. */
export const makesActivations = (shape: KvShape, tiles: AttentionVariant, singles: AttentionVariant): boolean =>
  quantizesInPlace(shape) && [tiles, singles].every(({ exchange }) => exchange === 'spread');

export class AttentionStage {
  readonly #options: AttentionOptions;
  /** Shared by all layers; null where splits are never apart. */
  readonly #partials: GPUBuffer | null;

  constructor(options: AttentionOptions) {
    this.#options = options;
    const { pipelines, shape, singles } = options;
    const size = SPLIT_ROWS * shape.heads * partialElements(shape) * 16;
    this.#partials =
      singles.splits === 'apart'
        ? pipelines.device.createBuffer({ label: 'attention splits', size, usage: GPUBufferUsage.STORAGE })
        : null;
  }

  /** From `qkv`, rotated, and a layer's arena to `out` [token][heads][headDim], or as activations. */
  async dispatches(qkv: GPUBuffer, arena: GPUBuffer, out: GPUBuffer): Promise<Dispatch[]> {
    const { pipelines, shape, field, tiles: tileVariant, singles, into } = this.#options;
    const rows = 'singleQueries';
    // With tiles of one row there are none.
    const tiled = tileVariant.rows > 1 ? [plain(await this.#stage('queryTiles', tileVariant, qkv, arena, out))] : [];
    const within = await this.#stage(rows, { ...singles, splits: 'within' }, qkv, arena, out);
    if (!this.#partials) return [...tiled, plain(within, rows)];
    const apart = await this.#stage(rows, singles, qkv, arena, this.#partials);
    const pipeline = await pipelines.get(mergeLabel(into), () => mergeShader(shape, 1, into));
    const bindings = [this.#partials, field(rows), field('counts'), out];
    const merge = this.#bound(pipeline, bindings, mergeWorkgroups(shape, into));
    return [...tiled, { type: 'split', rows, within, apart, merge, capacity: SPLIT_ROWS }];
  }

  async #stage(
    list: 'queryTiles' | 'singleQueries',
    variant: AttentionVariant,
    qkv: GPUBuffer,
    arena: GPUBuffer,
    to: GPUBuffer,
  ): Promise<Stage> {
    const { pipelines, shape, field, into } = this.#options;
    const pipeline = await pipelines.get(attentionLabel(variant, into), () => attentionShader(shape, variant, into));
    return this.#bound(pipeline, [qkv, arena, field(list), field('lists'), to], attentionWorkgroups(shape, variant));
  }

  #bound(pipeline: GPUComputePipeline, bindings: readonly Binding[], workgroups: number): Stage {
    return { pipeline, bindGroup: bindInOrder(this.#options.pipelines.device, pipeline, bindings), workgroups };
  }
}

function plain(
  { pipeline, bindGroup, workgroups }: Stage,
  rows: 'queryTiles' | 'singleQueries' = 'queryTiles',
): Dispatch {
  return { type: 'rows', pipeline, bindGroup, rows, unitsPerRow: workgroups, lanes: 1, rowsAlongY: true };
}
