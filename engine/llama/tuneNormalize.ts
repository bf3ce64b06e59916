// How many lanes the norm before a matrix has: a tunable per type of activations.
import { BLOCK, TOKEN_GROUP } from '../../wgsl/matmul/layout.ts';
import { type Activations, X_PARTS } from '../../wgsl/matmul/variant.ts';
import { normalizeLanes, normalizeParams, normalizeShader } from '../../wgsl/normalize/shader.ts';
import type { Problem, Tunable } from '../tuning/tunable.ts';
import { bindInOrder } from './dispatch.ts';
import type { Pipelines } from './pipelines.ts';
import { ProblemBuffers } from './problemBuffers.ts';
import { seededNumbers } from './seededNumbers.ts';

/** Not a bare number: objects would order them by value. */
export const lanesName = (lanes: number): string => `lanes-${lanes}`;

export const normalizeLabel = (format: Activations, lanes: number): string => `normalize ${format} lanes-${lanes}`;

export function normalizeTunable(
  pipelines: Pipelines,
  format: Activations,
  hidden: number,
  gpu: { software: boolean; maxLanes: number },
): { lanes: number[]; tunable: Tunable } {
  const lanes = normalizeLanes(gpu.software).filter((count) => count <= gpu.maxLanes);
  const tunable: Tunable = {
    name: `normalize ${format}: ${hidden}`,
    names: lanes.map(lanesName),
    sources: lanes
      .map((count) => pipelines.declare(normalizeLabel(format, count), () => normalizeShader(format, count)))
      .join(),
    problem: () => problem(pipelines, format, hidden, lanes),
  };
  return { lanes, tunable };
}

async function problem(
  pipelines: Pipelines,
  format: Activations,
  width: number,
  lanes: readonly number[],
): Promise<Problem> {
  const { device } = pipelines;
  const buffers = new ProblemBuffers(device);
  const blocks = width / BLOCK;
  const hidden = buffers.filled('hidden', seededNumbers(3, TOKEN_GROUP * width));
  // Nothing is added: a second run sees what the first saw.
  const delta = buffers.empty('delta', TOKEN_GROUP * width * 4);
  const weight = buffers.filled('norm', seededNumbers(4, width));
  const rows = buffers.filled(
    'rows',
    Uint32Array.from({ length: TOKEN_GROUP }, (_, i) => i),
  );
  const result = buffers.empty('activations', TOKEN_GROUP * blocks * X_PARTS[format] * 16);
  const params = buffers.filled('normalize params', normalizeParams(width, 1e-5));
  const candidates = lanes.map((count) => ({
    name: lanesName(count),
    prepare: async () => {
      const pipeline = await pipelines.compile(normalizeLabel(format, count), () => normalizeShader(format, count));
      const bindGroup = bindInOrder(device, pipeline, [hidden, delta, weight, rows, result, params]);
      const run = (pass: GPUComputePassEncoder): void => {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(1);
      };
      const check = (pass: GPUComputePassEncoder): void => {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(TOKEN_GROUP);
      };
      return { check, run };
    },
  }));
  return { candidates, result, destroy: () => buffers.destroy() };
}
