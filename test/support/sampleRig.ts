// Runs the sampling kernels over rows of logits on the GPU, and the CPU reference over the same words.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { Pipelines } from '../../engine/llama/pipelines.ts';
import { cutLanes, SampleStage } from '../../engine/llama/sampleStage.ts';
import { sampleReference } from '../../wgsl/sample/reference.ts';
import {
  ADJUSTMENT_WORDS,
  NOT_SEEN,
  RESULT_WORDS,
  ROW_WORDS,
  type RowInstructions,
  type Words,
  writeRow,
} from '../../wgsl/sample/row.ts';
import { download, submit, testDevice, upload } from './gpu.ts';

export interface SampleCase {
  logits: Float32Array;
  draw: RowInstructions['draw'];
  given?: number;
  top: number | null;
  /** Tokens with a bias, or seen: in the prompt (count 0) or generated. */
  adjusted: readonly { id: number; count: number | null; bias: number }[];
  /** The token that a slot holds and that `adjusted` does not count. */
  pending?: number;
}

const words = (length: number): Words => {
  const u32 = new Uint32Array(length);
  return { u32, f32: new Float32Array(u32.buffer) };
};

/** Uploads the cases, one row each with a slot of its own; `encode` answers them all, as often as wanted where none is adjusted. */
export async function prepareSampling(
  gpu: OpenedDevice,
  cases: readonly SampleCase[],
  vocabSize: number,
  lanes = cutLanes(gpu.software)[0]!,
) {
  const { device } = gpu;
  const stride = Math.ceil(vocabSize / 8) * 8;
  const entries = cases.reduce((sum, { adjusted }) => sum + adjusted.length, 0);
  const shape = { vocabSize, stride, maxRows: cases.length, maxKept: entries + cases.length };
  const rows = words(cases.length * ROW_WORDS);
  const adjustments = words(Math.max(1, entries * ADJUSTMENT_WORDS));
  const slots = new Uint32Array(cases.length);
  // What is beyond the vocabulary in memory must not matter.
  const logits = new Float32Array(cases.length * stride).fill(1000);
  let entry = 0;
  for (const [i, { draw, given, top, adjusted, pending, logits: own }] of cases.entries()) {
    logits.set(own, i * stride);
    const row = { draw, given: given ?? 0, top, slot: i, pending: pending === undefined ? null : i };
    const place = { adjustAt: entry * ADJUSTMENT_WORDS, adjustments: adjusted.length, keptAt: entry + i };
    writeRow(rows, i * ROW_WORDS, { ...row, ...place }, vocabSize);
    slots[i] = pending ?? 0;
    for (const { id, count, bias } of adjusted) {
      adjustments.u32[entry * ADJUSTMENT_WORDS] = id;
      adjustments.u32[entry * ADJUSTMENT_WORDS + 1] = count ?? NOT_SEEN;
      adjustments.f32[entry * ADJUSTMENT_WORDS + 2] = bias;
      entry += 1;
    }
  }
  const { STORAGE } = GPUBufferUsage;
  const stage = await SampleStage.build(new Pipelines(device), shape, cases.length, lanes, {
    rows: { buffer: upload(device, rows.u32, STORAGE) },
    adjustments: { buffer: upload(device, adjustments.u32, STORAGE) },
    logits: upload(device, logits, STORAGE),
  });
  device.queue.writeBuffer(stage.slots, 0, slots);
  const flags = cases.reduce((all, _, i) => all | rows.u32[i * ROW_WORDS]!, 0);
  const encode = (pass: GPUComputePassEncoder): void => stage.encode(pass, cases.length, flags);
  return { encode, results: stage.results, rows, adjustments, slots };
}

/** Both answers of each case, [cases, RESULT_WORDS]. */
export async function runSampling(cases: readonly SampleCase[], vocabSize: number, lanes?: number) {
  const gpu = await testDevice();
  const { encode, results, rows, adjustments, slots } = await prepareSampling(gpu, cases, vocabSize, lanes);
  submit(gpu.device, encode);
  const actual = new Uint32Array(await download(gpu.device, results));
  const expected = new Uint32Array(cases.length * RESULT_WORDS);
  for (const [i, { logits }] of cases.entries())
    expected.set(sampleReference(logits, rows, i * ROW_WORDS, adjustments, slots), i * RESULT_WORDS);
  return { actual, expected };
}
