// The matrix kernel's tunables, one pair per family (kind of weights, activations, layout): which form it takes, and what 1 to 4 columns cost in it.
// The problem is the model's own matrices with seeded activations: their shapes are those that count.
import { BLOCK, ROWS_PER_LANE, TOKEN_GROUP, UNIFORM_WINDOW_BYTES } from '../../wgsl/matmul/layout.ts';
import { matmulShader } from '../../wgsl/matmul/shader.ts';
import {
  type Activations,
  COLUMNS,
  type Columns,
  type FormAdapter,
  formLabel,
  formsOf,
  type MatmulForm,
  variantLabel,
} from '../../wgsl/matmul/variant.ts';
import { QUANTIZE_LANES, quantizeShader } from '../../wgsl/quantize/shader.ts';
import type { Problem, Tunable } from '../tuning/tunable.ts';
import { bindInOrder } from './dispatch.ts';
import { type TileDispatch, tileDispatches, xGroupBytesOf } from './matmulDispatches.ts';
import type { Matrix } from './matrix.ts';
import type { MatmulShape, Pipelines } from './pipelines.ts';
import { ProblemBuffers } from './problemBuffers.ts';
import { seededNumbers } from './seededNumbers.ts';
import type { Projection, Weights } from './weights.ts';

/** Matrices that one kernel multiplies. */
export interface MatmulFamilyShape extends MatmulShape {
  weights: Matrix['weights'];
  /** A group of x fits a uniform window. */
  xFits: boolean;
}

export const familyKey = ({ kind, activations, weights, xFits }: MatmulFamilyShape): string =>
  `${kind} × ${activations}, ${weights} windows${xFits ? '' : ', wide'}`;

export function familyOf({ layout, weights }: Matrix, activations: Activations): MatmulFamilyShape {
  const xFits = xGroupBytesOf(layout.blocks, activations) <= UNIFORM_WINDOW_BYTES;
  return { kind: layout.kind, activations, weights, xFits };
}

export const columnsName = (columns: Columns): string => `columns-${columns}`;

export interface FamilySample {
  family: MatmulFamilyShape;
  matrices: Matrix[];
  /** Weights of the whole model that are of this family: the largest is tuned first. */
  size: number;
}

/** Weights that a problem multiplies, more or less: a few layers, so that a GPU's caches don't hold them all. */
const SAMPLE_WEIGHTS = { software: 4e6, hardware: 128e6 };
/** A multiple of 1, 2, 3 and 4, so that no column is padding. */
const TIMED_ROWS = 12;
/** Single rows for each group of 16: about as long together as that group. */
const SINGLE_RUNS = 8;

/** All families of a model, the largest first. */
export function familiesOf(weights: Weights, activationsOf: (next: Projection) => Activations): FamilySample[] {
  const samples = new Map<string, FamilySample>();
  const projections = weights.layers.flatMap(({ qkv, output, gateUp, down }) => [qkv, output, gateUp, down]);
  for (const projection of [...projections, weights.head])
    for (const { matrix } of projection.runs) {
      const family = familyOf(matrix, activationsOf(projection));
      const sample = samples.get(familyKey(family)) ?? { family, matrices: [], size: 0 };
      samples.set(familyKey(family), sample);
      sample.matrices.push(matrix);
      sample.size += matrix.layout.rows * matrix.layout.cols;
    }
  return [...samples.values()].sort((a, b) => b.size - a.size);
}

export class MatmulTuning {
  readonly #pipelines: Pipelines;
  readonly #gpu: FormAdapter;

  constructor(pipelines: Pipelines, gpu: FormAdapter) {
    this.#pipelines = pipelines;
    this.#gpu = gpu;
  }

  /** By the time of single rows and of whole groups together. */
  forms({ family, matrices }: FamilySample): { forms: MatmulForm[]; tunable: Tunable } {
    const forms = formsOf(family.weights, family.xFits, this.#gpu);
    const tunable: Tunable = {
      name: `matmul ${familyKey(family)}: ${shapesOf(matrices)}`,
      names: forms.map(formLabel),
      sources: forms.map((form) => this.#sources(family, form)).join(),
      problem: () =>
        this.#problem(family, matrices, (build) =>
          forms.map((form) => ({
            name: formLabel(form),
            prepare: async () => {
              const [one, four] = [await build(form, 1), await build(form, 4)];
              return {
                check(pass) {
                  one(pass, TOKEN_GROUP, 0);
                  four(pass, TOKEN_GROUP, 1);
                },
                run(pass) {
                  for (let i = 0; i < SINGLE_RUNS; i++) one(pass, 1, 0);
                  four(pass, TOKEN_GROUP, 0);
                },
              };
            },
          })),
        ),
    };
    return { forms, tunable };
  }

  /** Timed to be compared: nothing is chosen among them but by a step's number of rows. */
  columns({ family, matrices }: FamilySample, form: MatmulForm): Tunable {
    return {
      name: `columns of ${familyKey(family)}, ${formLabel(form)}: ${shapesOf(matrices)}`,
      names: COLUMNS.map(columnsName),
      sources: this.#sources(family, form),
      problem: () =>
        this.#problem(family, matrices, (build) =>
          COLUMNS.map((columns) => ({
            name: columnsName(columns),
            prepare: async () => {
              const encode = await build(form, columns);
              return { check: (pass) => encode(pass, TOKEN_GROUP, 0), run: (pass) => encode(pass, TIMED_ROWS, 0) };
            },
          })),
        ),
    };
  }

  #sources(family: MatmulShape, form: MatmulForm): string {
    return COLUMNS.map((columns) => {
      const variant = { kind: family.kind, activations: family.activations, ...form, columns };
      return this.#pipelines.declare(variantLabel(variant), () => matmulShader(variant));
    }).join();
  }

  async #problem(
    { kind, activations }: MatmulFamilyShape,
    matrices: readonly Matrix[],
    candidates: (
      build: (
        form: MatmulForm,
        columns: Columns,
      ) => Promise<(pass: GPUComputePassEncoder, rows: number, group: 0 | 1) => void>,
    ) => Problem['candidates'],
  ): Promise<Problem> {
    const pipelines = this.#pipelines;
    const buffers = new ProblemBuffers(pipelines.device);
    const tiles = sampleOf(matrices, this.#gpu.software ? SAMPLE_WEIGHTS.software : SAMPLE_WEIGHTS.hardware);
    const blocks = Math.max(...tiles.map(({ matrix }) => matrix.layout.blocks));
    const outStride = tiles.reduce((sum, { rows }) => sum + rows, 0);
    const x = await seededActivations(pipelines, buffers, activations, blocks);
    const groupBytes = TOKEN_GROUP * outStride * 4;
    const result = buffers.empty('products', 2 * groupBytes);
    const build = async (form: MatmulForm, columns: Columns) => {
      const pipeline = await pipelines.matmul({ kind, activations, ...form, columns });
      const dispatches: TileDispatch[] = [];
      let firstRow = 0;
      for (const { matrix, count, rows } of tiles) {
        const options = { layout: matrix.layout, activations, form, x, out: result, firstRow, outStride };
        dispatches.push(...tileDispatches(pipelines, matrix.parts[0]!, options, count));
        firstRow += rows;
      }
      return (pass: GPUComputePassEncoder, rows: number, group: 0 | 1): void => {
        pass.setPipeline(pipeline);
        for (const { bindGroup, workgroups } of dispatches) {
          pass.setBindGroup(0, bindGroup, [0, group * groupBytes]);
          pass.dispatchWorkgroups(workgroups, Math.ceil(rows / columns));
        }
      };
    };
    return { candidates: candidates(build), result, destroy: () => buffers.destroy() };
  }
}

interface SampledMatrix {
  matrix: Matrix;
  /** Tiles, and rows of out that they need. */
  count: number;
  rows: number;
}

/** Tiles of the first matrices, each shape as often as a layer has it. */
function sampleOf(matrices: readonly Matrix[], most: number): SampledMatrix[] {
  const sampled: SampledMatrix[] = [];
  let left = most;
  for (const matrix of matrices) {
    const { lanes, cols } = matrix.layout;
    const tileRows = lanes * ROWS_PER_LANE;
    const count = Math.min(matrix.parts[0]!.tiles, Math.max(1, Math.floor(left / (tileRows * cols))));
    sampled.push({ matrix, count, rows: count * tileRows });
    left -= count * tileRows * cols;
    if (left <= 0) break;
  }
  return sampled;
}

/** 16 tokens of `blocks` blocks, as wgsl/quantize makes them, and a uniform window's room behind. */
async function seededActivations(
  pipelines: Pipelines,
  buffers: ProblemBuffers,
  format: Activations,
  blocks: number,
): Promise<GPUBuffer> {
  const { device } = pipelines;
  const x = buffers.empty('activations', xGroupBytesOf(blocks, format) + UNIFORM_WINDOW_BYTES);
  const source = buffers.filled('rows', seededNumbers(1, TOKEN_GROUP * blocks * BLOCK));
  const params = buffers.filled('quantize params', Uint32Array.of(blocks, (blocks * BLOCK) / 4));
  const counts = buffers.filled('counts', Uint32Array.of(TOKEN_GROUP, 0, 0, 0));
  const pipeline = await pipelines.compile(`quantize plain ${format}`, () =>
    quantizeShader({ source: 'plain', format }),
  );
  const encoder = device.createCommandEncoder({ label: 'tuning: activations' });
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindInOrder(device, pipeline, [source, x, params, counts]));
  pass.dispatchWorkgroups(Math.ceil((TOKEN_GROUP * blocks) / QUANTIZE_LANES));
  pass.end();
  device.queue.submit([encoder.finish()]);
  return x;
}

/** Each shape once, in order. */
const shapesOf = (matrices: readonly Matrix[]): string =>
  [...new Set(matrices.map(({ layout }) => `${layout.rows}×${layout.cols}`))].join(' ');
