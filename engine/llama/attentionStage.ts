// Attention of a layer as dispatches: query tiles in one, single queries in another, each skipped where a step has none of its kind. Where
// a GPU has lanes to spare, single queries over long contexts are spread over workgroups and merged.
import { mergeShader, mergeWorkgroups, partialElements } from '../../wgsl/attention/merge.ts';
import {
  type AttentionVariant,
  attentionLabel,
  attentionShader,
  attentionWorkgroups,
} from '../../wgsl/attention/shader.ts';
import type { KvShape } from '../../wgsl/attention/shape.ts';
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
  /** Binding of a field of the step's metadata. */
  field: (name: MetadataField) => GPUBufferBinding;
}

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

  /** From `qkv`, rotated, and a layer's arena to `out` [token][heads][headDim]. */
  async dispatches(qkv: GPUBuffer, arena: GPUBuffer, out: GPUBuffer): Promise<Dispatch[]> {
    const { pipelines, shape, field, singles } = this.#options;
    const rows = 'singleQueries';
    const tiles = await this.#stage('queryTiles', this.#options.tiles, qkv, arena, out);
    const within = await this.#stage(rows, { ...singles, splits: 'within' }, qkv, arena, out);
    if (!this.#partials) return [plain('queryTiles', tiles), plain(rows, within)];
    const apart = await this.#stage(rows, singles, qkv, arena, this.#partials);
    const pipeline = await pipelines.get('merge of splits', () => mergeShader(shape, 1));
    const merge = this.#bound(pipeline, [this.#partials, field(rows), field('counts'), out], mergeWorkgroups(shape));
    return [plain('queryTiles', tiles), { type: 'split', rows, within, apart, merge, capacity: SPLIT_ROWS }];
  }

  async #stage(
    list: 'queryTiles' | 'singleQueries',
    variant: AttentionVariant,
    qkv: GPUBuffer,
    arena: GPUBuffer,
    to: GPUBuffer,
  ): Promise<Stage> {
    const { pipelines, shape, field } = this.#options;
    const pipeline = await pipelines.get(attentionLabel(variant), () => attentionShader(shape, variant));
    return this.#bound(pipeline, [qkv, arena, field(list), field('lists'), to], attentionWorkgroups(shape, variant));
  }

  #bound(pipeline: GPUComputePipeline, bindings: readonly Binding[], workgroups: number): Stage {
    return { pipeline, bindGroup: bindInOrder(this.#options.pipelines.device, pipeline, bindings), workgroups };
  }
}

function plain(rows: 'queryTiles' | 'singleQueries', { pipeline, bindGroup, workgroups }: Stage): Dispatch {
  return { type: 'rows', pipeline, bindGroup, rows, unitsPerRow: workgroups, lanes: 1, rowsAlongY: true };
}
