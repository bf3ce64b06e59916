// How many lanes look for top_k and top_p: a tunable over one row of seeded logits, drawn from with both.
import { cutShader } from '../../wgsl/sample/cut.ts';
import { ROW_WORDS, type SampleShape, writeRow } from '../../wgsl/sample/row.ts';
import type { Problem, Tunable } from '../tuning/tunable.ts';
import type { Pipelines } from './pipelines.ts';
import { ProblemBuffers } from './problemBuffers.ts';
import { cutLabel, cutLanes, SampleStage } from './sampleStage.ts';
import { seededNumbers } from './seededNumbers.ts';
import { lanesName } from './tuneNormalize.ts';

const DRAW = {
  ...{ temperature: 1, topK: 40, topP: 0.95, minP: 0, frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1 },
  noise: [0x7654_3210, 0x89ab_cdef] as const,
};

export function cutTunable(
  pipelines: Pipelines,
  shape: SampleShape,
  gpu: { software: boolean; maxLanes: number },
): { lanes: number[]; tunable: Tunable } {
  const lanes = cutLanes(gpu.software).filter((count) => count <= gpu.maxLanes);
  const tunable: Tunable = {
    name: `top_k and top_p: ${shape.vocabSize}`,
    names: lanes.map(lanesName),
    sources: lanes.map((count) => pipelines.declare(cutLabel(count), () => cutShader(shape, count))).join(),
    problem: () => problem(pipelines, shape, lanes),
  };
  return { lanes, tunable };
}

async function problem(pipelines: Pipelines, shape: SampleShape, lanes: readonly number[]): Promise<Problem> {
  const buffers = new ProblemBuffers(pipelines.device);
  const u32 = new Uint32Array(ROW_WORDS);
  const row = { draw: DRAW, given: 0, top: null, slot: 0, pending: null, adjustAt: 0, adjustments: 0, keptAt: 0 };
  writeRow({ u32, f32: new Float32Array(u32.buffer) }, 0, row, shape.vocabSize);
  const stage = await SampleStage.build(pipelines, shape, 1, lanes[0]!, {
    rows: { buffer: buffers.filled('row', u32) },
    adjustments: { buffer: buffers.empty('adjustments', 16) },
    logits: buffers.filled(
      'logits',
      seededNumbers(5, shape.stride).map((value) => value ** 3 * 12),
    ),
  });
  const candidates = lanes.map((count) => ({
    name: lanesName(count),
    prepare: async () => {
      const own = await stage.withCut(count);
      const encode = (pass: GPUComputePassEncoder): void => own.encode(pass, 1, u32[0]!);
      return { check: encode, run: encode };
    },
  }));
  const destroy = (): void => {
    stage.destroy();
    buffers.destroy();
  };
  return { candidates, result: stage.results, destroy };
}
