// Attention's tunables: which variant takes tiles of query rows, and which single rows over a long context. The problem is one sequence whose
// keys and values the engine's own kernel writes from seeded numbers, in the model's KV format.
import { mergeLabel, mergeShader, mergeWorkgroups, partialElements } from '../../wgsl/attention/merge.ts';
import {
  type AttentionVariant,
  attentionLabel,
  attentionShader,
  attentionWorkgroups,
} from '../../wgsl/attention/shader.ts';
import { CONTEXT_SPLIT, type KvShape } from '../../wgsl/attention/shape.ts';
import { quantizesInPlace } from '../../wgsl/attention/spread.ts';
import { BLOCK_SLOTS, type KvFormat, kvBlockBytes } from '../../wgsl/kv/format.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';
import { placesOf } from '../../wgsl/rope/place.ts';
import { ROPE_LANES, ropeShader, ropeUnits } from '../../wgsl/rope/shader.ts';
import type { Prepared, Problem, Tunable } from '../tuning/tunable.ts';
import { bindInOrder } from './dispatch.ts';
import type { Pipelines } from './pipelines.ts';
import { ProblemBuffers } from './problemBuffers.ts';
import { seededNumbers } from './seededNumbers.ts';

/** Positions of the sequence, and rows asked for at its end. Whole tiles are timed; the self-test has one that isn't full. */
interface Asked {
  positions: number;
  timedRows: number;
  checkedRows: number;
}
const TILES: Asked = { positions: 275, timedRows: 16, checkedRows: 19 };
/** Several splits, the last of which isn't full. */
const SINGLES: Asked = { positions: 3 * CONTEXT_SPLIT + 100, timedRows: 1, checkedRows: 4 };

export class AttentionTuning {
  readonly #pipelines: Pipelines;
  readonly #shape: KvShape;
  readonly #format: KvFormat;
  readonly #into: readonly Activations[];

  /** `into`: activations that matrices of the model take. */
  constructor(pipelines: Pipelines, shape: KvShape, format: KvFormat, into: Iterable<Activations>) {
    this.#pipelines = pipelines;
    this.#shape = shape;
    this.#format = format;
    this.#into = [...into];
  }

  tiles(variants: readonly AttentionVariant[]): Tunable {
    return this.#tunable('tiles of rows', TILES, variants);
  }

  singles(variants: readonly AttentionVariant[]): Tunable {
    return this.#tunable('single rows', SINGLES, variants);
  }

  #tunable(what: string, asked: Asked, variants: readonly AttentionVariant[]): Tunable {
    const { heads, kvHeads, headDim } = this.#shape;
    return {
      name: `attention, ${what}: ${heads} heads over ${kvHeads} of ${headDim} dims in ${this.#format}`,
      names: variants.map((variant) => attentionLabel(variant)),
      sources: variants.map((variant) => this.#declare(variant)).join(),
      problem: () => this.#problem(asked, variants),
    };
  }

  /** With all that a step may run of it, however it ends. */
  #declare(variant: AttentionVariant): string {
    const ends = [null, ...(variant.exchange === 'spread' && quantizesInPlace(this.#shape) ? this.#into : [])];
    const within: AttentionVariant = { ...variant, splits: 'within' };
    const sources = ends.flatMap((into) => [
      this.#shader(within, into),
      ...(variant.splits === 'apart'
        ? [
            this.#shader(variant, into),
            this.#pipelines.declare(mergeLabel(into), () => mergeShader(this.#shape, 1, into)),
          ]
        : []),
    ]);
    return sources.join('');
  }

  #shader(variant: AttentionVariant, into: Activations | null): string {
    return this.#pipelines.declare(attentionLabel(variant, into), () => attentionShader(this.#shape, variant, into));
  }

  async #problem(
    { positions, timedRows, checkedRows }: Asked,
    variants: readonly AttentionVariant[],
  ): Promise<Problem> {
    const { device } = this.#pipelines;
    const { heads, kvHeads, headDim } = this.#shape;
    const buffers = new ProblemBuffers(device);
    const blocks = Math.ceil(positions / BLOCK_SLOTS);
    const qkv = buffers.filled('qkv', seededNumbers(2, positions * (heads + 2 * kvHeads) * headDim));
    const arena = buffers.empty('arena', blocks * kvBlockBytes(this.#format, kvHeads, headDim));
    // Blocks in descending order: where they lie must not matter.
    const tables = Uint32Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
    await this.#writeArena(buffers, qkv, arena, tables, positions);
    const table = buffers.filled('block table', tables);
    const result = buffers.empty('attention', positions * heads * headDim * 4);
    const splits = Math.ceil(positions / CONTEXT_SPLIT);
    const counts = buffers.filled('counts', Uint32Array.of(0, 0, 0, splits));
    const partials = buffers.empty('splits', checkedRows * heads * splits * partialElements(this.#shape) * 16);
    const prepare = async (variant: AttentionVariant): Promise<Prepared> => {
      const apart = variant.splits === 'apart';
      const pipeline = await this.#pipelines.compile(attentionLabel(variant), () =>
        attentionShader(this.#shape, variant),
      );
      const merge = apart ? await this.#pipelines.compile(mergeLabel(), () => mergeShader(this.#shape, 1)) : null;
      const encodeOf = (rows: number): ((pass: GPUComputePassEncoder) => void) => {
        const words: number[] = [];
        for (let at = positions - rows; at < positions; at += variant.rows)
          words.push(at, Math.min(variant.rows, positions - at), 0, at);
        const items = buffers.filled('items', Uint32Array.from(words));
        const count = words.length / 4;
        const bindGroup = bindInOrder(device, pipeline, [qkv, arena, items, table, apart ? partials : result]);
        const mergeGroup = merge && bindInOrder(device, merge, [partials, items, counts, result]);
        return (pass) => {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, bindGroup);
          pass.dispatchWorkgroups(attentionWorkgroups(this.#shape, variant), count, apart ? splits : 1);
          if (!merge || !mergeGroup) return;
          pass.setPipeline(merge);
          pass.setBindGroup(0, mergeGroup);
          pass.dispatchWorkgroups(mergeWorkgroups(this.#shape), count);
        };
      };
      return { check: encodeOf(checkedRows), run: encodeOf(timedRows) };
    };
    const candidates = variants.map((variant) => ({ name: attentionLabel(variant), prepare: () => prepare(variant) }));
    return { candidates, result, destroy: () => buffers.destroy() };
  }

  /** By the engine's own kernel, at an angle of zero. */
  async #writeArena(
    buffers: ProblemBuffers,
    qkv: GPUBuffer,
    arena: GPUBuffer,
    tables: Uint32Array,
    positions: number,
  ): Promise<void> {
    const { device } = this.#pipelines;
    const shape = this.#shape;
    const slot = (position: number): number =>
      tables[Math.floor(position / BLOCK_SLOTS)]! * BLOCK_SLOTS + (position % BLOCK_SLOTS);
    const slots = Uint32Array.from({ length: positions }, (_, i) => slot(i));
    const angles = Float32Array.from({ length: positions * shape.ropeDim }, (_, i) => (i + 1) % 2);
    const places = buffers.filled('places', placesOf(angles, slots, shape.ropeDim));
    const counts = buffers.filled('tokens', Uint32Array.of(positions, 0, 0, 0));
    const pipeline = await this.#pipelines.compile(`rope ${this.#format}`, () => ropeShader(shape, this.#format));
    const encoder = device.createCommandEncoder({ label: 'tuning: keys and values' });
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindInOrder(device, pipeline, [qkv, arena, places, counts]));
    pass.dispatchWorkgroups(Math.ceil((positions * ropeUnits(shape, this.#format)) / ROPE_LANES));
    pass.end();
    device.queue.submit([encoder.finish()]);
  }
}
