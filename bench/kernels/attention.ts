// Attention over the heads of SmolLM2-135M: decodes and chunks of prompts at several contexts, and decodes in each KV format. Variants are those that
// the engine would take on this adapter.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { dispatchOf } from '../../test/support/gpu.ts';
import {
  type AttentionVariant,
  attentionLabel,
  attentionShader,
  attentionWorkgroups,
} from '../../wgsl/attention/shader.ts';
import { type KvShape, queryRows, unitsOf } from '../../wgsl/attention/shape.ts';
import { BLOCK_SLOTS, KV_FORMATS, type KvFormat, kvBlockBytes } from '../../wgsl/kv/format.ts';
import type { KernelCase, Operation } from './operation.ts';

const SHAPE: KvShape = { heads: 9, kvHeads: 3, headDim: 64, ropeDim: 64 };

interface Given {
  format: KvFormat;
  /** Query rows of one sequence, and positions before the first of them. */
  rows: number;
  before: number;
}

const CASES: Given[] = [
  ...[64, 256, 1024, 4096, 16_384].map((context) => ({ format: 'f16' as const, rows: 1, before: context - 1 })),
  ...KV_FORMATS.filter((format) => format !== 'f16').map((format) => ({ format, rows: 1, before: 4095 })),
  ...[16, 64].flatMap((rows) => [0, 256, 2048].map((before) => ({ format: 'f16' as const, rows, before }))),
];

export const attention: Operation = {
  name: 'attention',
  async cases(gpu: OpenedDevice, quick: boolean): Promise<KernelCase[]> {
    const pipelines = new Pipelines(gpu.device);
    const cases: KernelCase[] = [];
    for (const given of quick ? CASES.slice(0, 1) : CASES) cases.push(await caseOf(gpu, pipelines, given));
    return cases;
  },
};

async function caseOf(gpu: OpenedDevice, pipelines: Pipelines, { format, rows, before }: Given): Promise<KernelCase> {
  const { device } = gpu;
  const { heads, kvHeads, headDim } = SHAPE;
  const units = unitsOf(SHAPE, gpu.subgroupSize);
  const tile = Math.min(rows, queryRows(SHAPE, gpu));
  const variant: AttentionVariant = {
    ...{ format, rows: tile, splits: 'within' },
    ...{ exchange: units ? 'subgroup' : 'workgroup', units: units ?? 1 },
  };
  const pipeline = await pipelines.get(attentionLabel(variant), () => attentionShader(SHAPE, variant));
  const blocks = Math.ceil((before + rows) / BLOCK_SLOTS);
  const arenaBytes = blocks * kvBlockBytes(format, kvHeads, headDim);
  const items: number[] = [];
  for (let row = 0; row < rows; row += tile) items.push(row, Math.min(tile, rows - row), 0, before + row);
  const { STORAGE, COPY_DST } = GPUBufferUsage;
  const empty = (size: number): GPUBuffer => device.createBuffer({ size, usage: STORAGE });
  const filled = (words: number[]): GPUBuffer => {
    const buffer = device.createBuffer({ size: words.length * 4, usage: STORAGE | COPY_DST });
    device.queue.writeBuffer(buffer, 0, Uint32Array.from(words));
    return buffer;
  };
  // What the numbers are doesn't matter for speed, except where they are NaN or denormal: zeros are neither. Blocks lie scattered.
  const buffers = [
    empty(rows * (heads + 2 * kvHeads) * headDim * 4),
    empty(arenaBytes),
    filled(items),
    filled(Array.from({ length: blocks }, (_, i) => (i % 2 ? blocks - (i + (blocks % 2)) : i))),
    empty(rows * heads * headDim * 4),
  ];
  // Each row is for the positions up to its own: twice headDim multiply-adds per head, for scores and for values.
  const seen = rows * before + (rows * (rows + 1)) / 2;
  return {
    parameters: { format, rows, 'positions before': before, tile },
    macs: 2 * seen * heads * headDim,
    bytes: arenaBytes + 2 * rows * heads * headDim * 4,
    encode: dispatchOf(device, pipeline, buffers, attentionWorkgroups(SHAPE, variant), items.length / 4),
  };
}
