// The end of a step: from the wanted rows' logits to tokens and logprobs, without bringing a row to the host. The kernels share one bind
// group; which of them a step needs is the union of its rows' flags.
import { adjustShader } from '../../wgsl/sample/adjust.ts';
import { SAMPLE_BINDINGS } from '../../wgsl/sample/bindings.ts';
import { cutShader } from '../../wgsl/sample/cut.ts';
import { pickShader } from '../../wgsl/sample/pick.ts';
import { FLAGS, RESULT_WORDS, type SampleShape, scratchLayout } from '../../wgsl/sample/row.ts';
import { bestShader, sumShader } from '../../wgsl/sample/scan.ts';
import { topShader } from '../../wgsl/sample/top.ts';
import type { Pipelines } from './pipelines.ts';

export interface SampleBuffers {
  /** [maxRows] of wgsl/sample/row.ts. */
  rows: GPUBufferBinding;
  adjustments: GPUBufferBinding;
  /** [maxRows, stride] f32; adjusted in place. */
  logits: GPUBuffer;
}

interface SampleDispatch {
  pipeline: GPUComputePipeline;
  /** Needed by a step when one of its rows has this flag. */
  flag: number;
  /** Workgroups along x, with a row along y; null: one workgroup per row. */
  chunks: number | null;
}

/** Lanes of the kernel that looks for top_k and top_p, the rule's first: a software adapter runs them one after another. */
export const cutLanes = (software: boolean): number[] => (software ? [64] : [256, 64, 128]);

/** Everything that a stage's kernels share. */
interface Shared {
  pipelines: Pipelines;
  shape: SampleShape;
  layout: GPUPipelineLayout;
  buffers: readonly GPUBuffer[];
}

export const cutLabel = (lanes: number): string => `sample cut lanes-${lanes}`;

export class SampleStage {
  /** Ids drawn for sequences, [slots]. */
  readonly slots: GPUBuffer;
  /** [maxRows, RESULT_WORDS]. */
  readonly results: GPUBuffer;
  readonly #bindGroup: GPUBindGroup;
  readonly #dispatches: readonly SampleDispatch[];
  readonly #shared: Shared;

  private constructor(
    slots: GPUBuffer,
    results: GPUBuffer,
    bindGroup: GPUBindGroup,
    dispatches: readonly SampleDispatch[],
    shared: Shared,
  ) {
    this.slots = slots;
    this.results = results;
    this.#bindGroup = bindGroup;
    this.#dispatches = dispatches;
    this.#shared = shared;
  }

  static async build(
    pipelines: Pipelines,
    shape: SampleShape,
    slotCount: number,
    lanes: number,
    { rows, adjustments, logits }: SampleBuffers,
  ): Promise<SampleStage> {
    const { device } = pipelines;
    const { chunks, words } = scratchLayout(shape);
    const { STORAGE, UNIFORM, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const slots = device.createBuffer({
      label: 'drawn ids',
      size: Math.max(16, slotCount * 4),
      usage: STORAGE | COPY_DST,
    });
    const size = shape.maxRows * RESULT_WORDS * 4;
    const results = device.createBuffer({ label: 'sample results', size, usage: STORAGE | COPY_SRC | COPY_DST });
    const scratch = device.createBuffer({ label: 'sample scratch', size: words * 4, usage: STORAGE });
    // All zero: what the shaders mix into numbers that no compiler may see through.
    const constants = device.createBuffer({ label: 'sample constants', size: 16, usage: UNIFORM });
    const layout = device.createBindGroupLayout({
      label: 'sample',
      entries: SAMPLE_BINDINGS.map((type, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type },
      })),
    });
    const resources = [
      rows,
      { buffer: logits },
      adjustments,
      ...[slots, scratch, results, constants].map((buffer) => ({ buffer })),
    ];
    const bindGroup = device.createBindGroup({
      label: 'sample',
      layout,
      entries: resources.map((resource, binding) => ({ binding, resource })),
    });
    const pipelineLayout = device.createPipelineLayout({ bindGroupLayouts: [layout] });
    const kernels: [label: string, code: () => string, flag: number, chunks: number | null][] = [
      ['sample best', () => bestShader(shape, false), FLAGS.wanted, chunks],
      ['sample sum, raw', () => sumShader(shape, true), FLAGS.logprobs, chunks],
      ['sample top', () => topShader(shape), FLAGS.logprobs, null],
      ['sample adjust', () => adjustShader(shape), FLAGS.adjusted, null],
      ['sample best, adjusted', () => bestShader(shape, true), FLAGS.adjusted, chunks],
      [cutLabel(lanes), () => cutShader(shape, lanes), FLAGS.cut, null],
      ['sample sum', () => sumShader(shape, false), FLAGS.sampled, chunks],
      ['sample pick', () => pickShader(shape), FLAGS.wanted, null],
    ];
    const dispatches = await Promise.all(
      kernels.map(async ([label, code, flag, count]) => ({
        pipeline: await pipelines.get(label, code, pipelineLayout),
        flag,
        chunks: count,
      })),
    );
    const buffers = [slots, scratch, results, constants];
    return new SampleStage(slots, results, bindGroup, dispatches, {
      pipelines,
      shape,
      layout: pipelineLayout,
      buffers,
    });
  }

  /** The same stage, on the same buffers, with other lanes for top_k and top_p. Throws ShaderError. */
  async withCut(lanes: number): Promise<SampleStage> {
    const { pipelines, shape, layout } = this.#shared;
    const pipeline = await pipelines.compile(cutLabel(lanes), () => cutShader(shape, lanes), layout);
    const dispatches = this.#dispatches.map((each) => (each.flag === FLAGS.cut ? { ...each, pipeline } : each));
    return new SampleStage(this.slots, this.results, this.#bindGroup, dispatches, this.#shared);
  }

  /** Puts away what `build` made. */
  destroy(): void {
    for (const buffer of this.#shared.buffers) buffer.destroy();
  }

  /** `flags`: those of all rows together. */
  encode(pass: GPUComputePassEncoder, rows: number, flags: number): void {
    if ((flags & FLAGS.wanted) === 0) return;
    pass.setBindGroup(0, this.#bindGroup);
    for (const { pipeline, flag, chunks } of this.#dispatches) {
      if ((flags & flag) === 0) continue;
      pass.setPipeline(pipeline);
      if (chunks === null) pass.dispatchWorkgroups(rows);
      else pass.dispatchWorkgroups(chunks, rows);
    }
  }
}
