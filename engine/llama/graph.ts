// Builds the fixed list of dispatches of a step: buffers, pipelines and bind groups, once per model.
import type { KvShape } from '../../wgsl/attention/shape.ts';
import { EMBED_LANES, embedParams, embedShader } from '../../wgsl/embed/shader.ts';
import { type KvFormat, kvBlockBytes } from '../../wgsl/kv/format.ts';
import { type Epilogue, STORE } from '../../wgsl/matmul/epilogue.ts';
import { tileWorkgroups } from '../../wgsl/matmul/host.ts';
import { BLOCK, ROWS_PER_LANE, TOKEN_GROUP, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import {
  type Activations,
  formLabel,
  manyRowsByRule,
  takesAllRows,
  wholeGroups,
  X_PARTS,
} from '../../wgsl/matmul/variant.ts';
import { normalizeParams, normalizeShader } from '../../wgsl/normalize/shader.ts';
import { gatedEpilogue } from '../../wgsl/quantize/gatedEpilogue.ts';
import { QUANTIZE_LANES, quantizeParams, quantizeShader } from '../../wgsl/quantize/shader.ts';
import { ropeEpilogue, ropeFuses } from '../../wgsl/rope/epilogue.ts';
import { placeVec4 } from '../../wgsl/rope/place.ts';
import { ROPE_LANES, ropeShader, ropeUnits } from '../../wgsl/rope/shader.ts';
import { RESOLVE_LANES, RESOLVE_SHADER } from '../../wgsl/sample/resolve.ts';
import type { SampleShape } from '../../wgsl/sample/row.ts';
import type { ModelConfig } from '../model/types.ts';
import { AttentionStage, makesActivations } from './attentionStage.ts';
import {
  type Binding,
  bindInOrder,
  type Dispatch,
  type ManyRowsPipeline,
  type RowDispatch,
  type Rows,
} from './dispatch.ts';
import type { KernelChoices } from './kernelChoices.ts';
import { tileDispatches, xGroupBytesOf } from './matmulDispatches.ts';
import type { Matrix } from './matrix.ts';
import type { MatmulShape, Pipelines } from './pipelines.ts';
import { SampleStage } from './sampleStage.ts';
import type { MetadataField, MetadataLimits, StepMetadata } from './stepMetadata.ts';
import { familyOf } from './tuneMatmul.ts';
import { normalizeLabel } from './tuneNormalize.ts';
import type { LayerWeights, Projection, Weights } from './weights.ts';

export interface GraphOptions {
  pipelines: Pipelines;
  config: ModelConfig;
  weights: Weights;
  activations: Activations;
  kvFormat: KvFormat;
  /** Which variant of each kernel. */
  kernels: KernelChoices;
  kvBlocks: number;
  maxTokens: number;
  maxLogits: number;
  metadata: StepMetadata;
  onShader: (done: number, total: number) => void;
}

export interface Graph {
  dispatches: Dispatch[];
  metadataBuffer: GPUBuffer;
  /** One KV arena per layer, and the bytes of a block in it. */
  arenas: GPUBuffer[];
  blockBytes: number;
  /** A block on its way: WebGPU does not copy within one buffer. */
  scratch: GPUBuffer;
  /** [maxLogits, logitsStride] f32. */
  logits: GPUBuffer;
  logitsStride: number;
  /** In front of the dispatches of a step that names slots. */
  resolve: readonly Dispatch[];
  /** Behind them, for the wishes of its rows. */
  sampling: SampleStage;
  sourceDigest: string;
}

/** A binding of one group of rows, over several. */
const spanning = (bound: Binding, groups: number): Binding =>
  'buffer' in bound && bound.size !== undefined ? { ...bound, size: bound.size * groups } : bound;

const padRows = (rows: number): number => Math.ceil(rows / 8) * 8;

/** Of the logits that a step with these limits can want. */
export function sampleShapeOf({
  vocabSize,
  maxLogits,
  maxAdjustments,
}: Pick<MetadataLimits, 'vocabSize' | 'maxLogits' | 'maxAdjustments'>): SampleShape {
  return { vocabSize, stride: padRows(vocabSize), maxRows: maxLogits, maxKept: maxAdjustments + maxLogits };
}

/** How a projection's sums are taken where they are not stored, and what that binds. */
interface Fused {
  epilogue: Epilogue;
  bindings?: readonly Binding[];
  /** Of those bindings that move from group to group. */
  groupBytes?: readonly number[];
  outStride?: number;
  outGroupBytes?: number;
}

export async function buildGraph(options: GraphOptions): Promise<Graph> {
  const builder = new GraphBuilder(options);
  return builder.build();
}

class GraphBuilder {
  readonly #options: GraphOptions;
  readonly #device: GPUDevice;
  readonly #pipelines: Pipelines;
  readonly #dispatches: Dispatch[] = [];
  readonly #metadataBuffer: GPUBuffer;
  readonly #tokens: number;
  /** Where a layer's gate and up can't be fused. */
  #gateUp: GPUBuffer | null = null;

  constructor(options: GraphOptions) {
    this.#options = options;
    this.#device = options.pipelines.device;
    this.#pipelines = options.pipelines;
    this.#tokens = wholeGroups(options.maxTokens);
    this.#metadataBuffer = this.#buffer(
      'step metadata',
      options.metadata.byteLength,
      GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    );
  }

  async build(): Promise<Graph> {
    const { config, weights, kvBlocks, maxLogits, kernels, onShader } = this.#options;
    const qkvRows = (config.heads + 2 * config.kvHeads) * config.headDim;
    const shape: KvShape = config;
    const blockBytes = kvBlockBytes(this.#options.kvFormat, config.kvHeads, config.headDim);
    const logitsStride = padRows(config.vocabSize);
    const hidden = this.#activation('hidden', config.hidden);
    const delta = this.#activation('delta', config.hidden);
    const qkv = this.#activation('qkv', qkvRows);
    const mixed = this.#activation('attention', config.heads * config.headDim);
    const widest = Math.max(config.hidden, config.feedForward, config.heads * config.headDim);
    const x = this.#activations('activations', Math.max(this.#tokens, maxLogits), widest);
    // What a projection takes and what it makes for the next one can't be one buffer.
    const gated = this.#activations('gated activations', this.#tokens, config.feedForward);
    const fused = ropeFuses(this.#options.kvFormat) ? ropeEpilogue(shape, this.#options.kvFormat) : null;
    const logits = this.#buffer(
      'logits',
      maxLogits * logitsStride * 4,
      GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC,
    );
    // One format for all layers: that of the matrices that take it.
    const formats = new Set(weights.layers.map(({ output }) => this.#format(output)));
    const direct = formats.size === 1 && makesActivations(shape, kernels.tiles, kernels.singles);
    const attention = new AttentionStage({
      ...{ pipelines: this.#pipelines, shape, tiles: kernels.tiles, singles: kernels.singles },
      into: direct ? [...formats][0]! : null,
      field: (name) => this.#field(name),
    });
    const arenas: GPUBuffer[] = [];
    const everyToken = this.#constant(
      'every token',
      Uint32Array.from({ length: this.#tokens }, (_, i) => i),
    );

    await this.#embed(weights, hidden, delta);
    for (const [index, layer] of weights.layers.entries()) {
      const arena = this.#buffer(
        `kv layer ${index}`,
        kvBlocks * blockBytes,
        GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
      );
      arenas.push(arena);
      await this.#normalize(hidden, delta, layer.attentionNorm, everyToken, x, layer.qkv, 'tokens');
      const bindings = [arena, this.#places()];
      const groupBytes = [TOKEN_GROUP * placeVec4(config.ropeDim) * 16];
      await this.#project(layer.qkv, x, qkv, 'tokens', fused && { epilogue: fused, bindings, groupBytes });
      if (!fused) await this.#rope(shape, qkv, arena);
      this.#dispatches.push(...(await attention.dispatches(qkv, arena, direct ? x : mixed)));
      if (direct) this.#declareQuantize('plain', layer.output);
      else await this.#quantize('plain', mixed, x, layer.output);
      await this.#project(layer.output, x, delta, 'tokens');
      await this.#normalize(hidden, delta, layer.feedForwardNorm, everyToken, x, layer.gateUp, 'tokens');
      await this.#gate(layer, x, gated);
      await this.#project(layer.down, gated, delta, 'tokens');
      onShader(index + 1, weights.layers.length + 1);
    }
    const wanted = this.#field('wanted');
    await this.#normalize(hidden, delta, weights.finalNorm, wanted, x, weights.head, 'wanted');
    await this.#project(weights.head, x, logits, 'wanted');
    const sampling = await SampleStage.build(
      this.#pipelines,
      sampleShapeOf(this.#options.metadata.limits),
      this.#options.metadata.limits.slots,
      kernels.cutLanes,
      { rows: this.#field('wishes'), adjustments: this.#field('lists'), logits },
    );
    const resolve = [
      this.#rowDispatch(
        await this.#pipelines.get('resolve', () => RESOLVE_SHADER),
        [this.#field('tokenIds'), sampling.slots],
        { rows: 'tokens', unitsPerRow: 1, lanes: RESOLVE_LANES, rowsAlongY: false },
      ),
    ];
    onShader(weights.layers.length + 1, weights.layers.length + 1);
    return {
      dispatches: this.#dispatches,
      metadataBuffer: this.#metadataBuffer,
      arenas,
      blockBytes,
      scratch: this.#buffer('block copy', blockBytes, GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST),
      logits,
      logitsStride,
      resolve,
      sampling,
      sourceDigest: this.#pipelines.sourceDigest(),
    };
  }

  async #embed({ embedding }: Weights, hidden: GPUBuffer, delta: GPUBuffer): Promise<void> {
    const { layout } = embedding;
    const pipeline = await this.#pipelines.get(`embed ${layout.kind}`, () => embedShader(layout.kind));
    for (const part of embedding.parts) {
      const params = this.#constant(
        'embed params',
        embedParams(layout, part.firstTile, part.tiles),
        GPUBufferUsage.UNIFORM,
      );
      const matrix = { buffer: part.buffer, size: part.tiles * layout.tileBytes };
      const bindings = [matrix, this.#field('tokenIds'), hidden, delta, params, this.#field('counts')];
      this.#rows(pipeline, bindings, 'tokens', layout.blocks, EMBED_LANES);
    }
  }

  async #normalize(
    hidden: GPUBuffer,
    delta: GPUBuffer,
    weight: GPUBuffer,
    rowToken: GPUBuffer | GPUBufferBinding,
    x: GPUBuffer,
    next: Projection,
    rows: Rows,
  ): Promise<void> {
    const format = this.#format(next);
    const lanes = this.#options.kernels.normalizeLanes(format);
    const pipeline = await this.#pipelines.get(normalizeLabel(format, lanes), () => normalizeShader(format, lanes));
    const words = normalizeParams(next.cols, this.#options.config.rmsEpsilon);
    const params = this.#constant('normalize params', words, GPUBufferUsage.UNIFORM);
    this.#rows(pipeline, [hidden, delta, weight, rowToken, x, params], rows, 1, 1);
  }

  async #rope(shape: KvShape, qkv: GPUBuffer, arena: GPUBuffer): Promise<void> {
    const { kvFormat } = this.#options;
    const pipeline = await this.#pipelines.get(`rope ${kvFormat}`, () => ropeShader(shape, kvFormat));
    const bindings = [qkv, arena, this.#field('places'), this.#field('counts')];
    this.#rows(pipeline, bindings, 'tokens', ropeUnits(shape, kvFormat), ROPE_LANES);
  }

  async #quantize(source: 'plain' | 'gated', from: GPUBuffer, x: GPUBuffer, next: Projection): Promise<void> {
    const format = this.#format(next);
    const label = this.#declareQuantize(source, next);
    const pipeline = await this.#pipelines.get(label, () => quantizeShader({ source, format }));
    const params = this.#constant(`${label} params`, quantizeParams({ source }, next.cols), GPUBufferUsage.UNIFORM);
    this.#rows(pipeline, [from, x, params, this.#field('counts')], 'tokens', next.cols / BLOCK, QUANTIZE_LANES);
  }

  #declareQuantize(source: 'plain' | 'gated', next: Projection): string {
    const format = this.#format(next);
    const label = `quantize ${source} ${format}`;
    this.#pipelines.declare(label, () => quantizeShader({ source, format }));
    return label;
  }

  /** gated = SiLU(gate · x) · (up · x), as activations of the layer's down projection. */
  async #gate({ gateUp, down }: LayerWeights, x: GPUBuffer, gated: GPUBuffer): Promise<void> {
    if (gateUp.interleaved) {
      const format = this.#format(down);
      const blocks = down.cols / BLOCK;
      const [outStride, outGroupBytes] = [blocks, xGroupBytesOf(blocks, format)];
      await this.#project(gateUp, x, gated, 'tokens', { epilogue: gatedEpilogue(format), outStride, outGroupBytes });
      return;
    }
    this.#gateUp ??= this.#activation('gate and up', gateUp.rows);
    await this.#project(gateUp, x, this.#gateUp, 'tokens');
    await this.#quantize('gated', this.#gateUp, gated, down);
  }

  /** out[row of tokens or wanted, projection.rows] = projection · x, or what an epilogue makes of it: a dispatch per tile, or per tile and group of 16 rows. */
  async #project(
    projection: Projection,
    x: GPUBuffer,
    out: GPUBuffer,
    rows: Rows,
    fused: Fused | null = null,
  ): Promise<void> {
    const activations = this.#format(projection);
    const { epilogue = STORE, bindings = [], groupBytes = [] } = fused ?? {};
    const outStride = fused?.outStride ?? padRows(projection.rows);
    const outGroupBytes = fused?.outGroupBytes ?? TOKEN_GROUP * outStride * 4;
    for (const { matrix, firstRow } of projection.runs) {
      const { layout } = matrix;
      const { form, columns } = this.#options.kernels.matmul(familyOf(matrix, activations));
      const family = await this.#pipelines.matmulFamily({ kind: layout.kind, activations, epilogue }, form, columns);
      const most = (rows === 'wanted' ? this.#options.maxLogits : this.#tokens) / TOKEN_GROUP;
      const largest = Math.max(xGroupBytesOf(layout.blocks, activations), outGroupBytes, ...groupBytes);
      const whole = takesAllRows(form) && most * largest <= this.#device.limits.maxStorageBufferBindingSize;
      const groups = whole ? most : 1;
      const bound = bindings.map((each, i) => spanning(each, epilogue.bindings[i]!.grouped ? groups : 1));
      const options = { layout, activations, form, x, out, firstRow, outStride, outGroupBytes, groups, epilogue };
      this.#dispatches.push({
        ...{ type: 'matmul', family, rows, whole },
        many: await this.#manyRows(matrix, { activations, epilogue }),
        tiles: matrix.parts.flatMap((part) => tileDispatches(this.#pipelines, part, { ...options, bindings: bound })),
        groupBytes: [xGroupBytesOf(layout.blocks, activations), outGroupBytes, ...groupBytes],
      });
    }
  }

  /** Pipelines for steps of many rows, with the workgroups of each tile. */
  async #manyRows(matrix: Matrix, shape: Omit<MatmulShape, 'kind'>): Promise<ManyRowsPipeline[]> {
    const { layout, parts } = matrix;
    const { form, dropped } = this.#options.kernels.matmul(familyOf(matrix, shape.activations));
    const usable = manyRowsByRule(form, Math.ceil(layout.rows / ROWS_PER_LANE)).filter(
      (many) => !dropped.includes(formLabel(many.form)),
    );
    return Promise.all(
      usable.map(async ({ form: own, columns, fromRows }) => {
        const variant = { kind: layout.kind, activations: shape.activations, columns, ...own };
        const workgroups = parts.flatMap(({ firstTile, tiles }) =>
          Array.from({ length: tiles }, (_, i) => tileWorkgroups(own, layout, firstTile + i)),
        );
        return { pipeline: await this.#pipelines.matmul(variant, shape.epilogue), columns, fromRows, workgroups };
      }),
    );
  }

  #format(next: Projection): Activations {
    return next.quantized ? this.#options.activations : 'f32';
  }

  #rows(
    pipeline: GPUComputePipeline,
    bindings: readonly (GPUBuffer | GPUBufferBinding)[],
    rows: Rows,
    unitsPerRow: number,
    lanes: number,
    rowsAlongY = false,
  ): void {
    this.#dispatches.push(this.#rowDispatch(pipeline, bindings, { rows, unitsPerRow, lanes, rowsAlongY }));
  }

  #rowDispatch(
    pipeline: GPUComputePipeline,
    bindings: readonly (GPUBuffer | GPUBufferBinding)[],
    grid: Omit<RowDispatch, 'type' | 'pipeline' | 'bindGroup'>,
  ): RowDispatch {
    const bindGroup = bindInOrder(this.#device, pipeline, bindings);
    return { type: 'rows', pipeline, bindGroup, ...grid };
  }

  #field(name: MetadataField): GPUBufferBinding {
    return { buffer: this.#metadataBuffer, ...this.#options.metadata.field[name] };
  }

  /** Of one group of tokens: the binding moves on with the group. */
  #places(): GPUBufferBinding {
    const { offset } = this.#options.metadata.field.places;
    const size = TOKEN_GROUP * placeVec4(this.#options.config.ropeDim) * 16;
    return { buffer: this.#metadataBuffer, offset, size };
  }

  /** Activations of a projection, as wgsl/quantize lays them out, in the larger of the formats; a uniform window's room behind. */
  #activations(label: string, tokens: number, width: number): GPUBuffer {
    const bytes = wholeGroups(tokens) * (width / BLOCK) * X_PARTS.f32 * 16 + UNIFORM_WINDOW_BYTES;
    return this.#buffer(label, bytes, GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM);
  }

  /** f32 per token of a step, in whole groups of 16. */
  #activation(label: string, width: number): GPUBuffer {
    return this.#buffer(label, this.#tokens * padRows(width) * 4, GPUBufferUsage.STORAGE);
  }

  #constant(label: string, words: Uint32Array<ArrayBuffer>, usage: number = GPUBufferUsage.STORAGE): GPUBuffer {
    const buffer = this.#buffer(label, Math.max(words.byteLength, 32), usage | GPUBufferUsage.COPY_DST);
    this.#device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  }

  #buffer(label: string, size: number, usage: number): GPUBuffer {
    return this.#device.createBuffer({ label, size, usage });
  }
}
