// What the kernel bench measures: an operation gives cases, a case is work that can be encoded again and again. `peaks.ts` is one of them, so that
// shares of a peak come from the same minute and the same machine.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import type { Activations } from '../../wgsl/matmul/variant.ts';

export interface KernelCase {
  /** What was run, as the table and the file have it: shape, type, rows. */
  parameters: Readonly<Record<string, string | number>>;
  /** Multiply-adds that the result needs, and bytes that have to be read and written for it at least; of one `encode`. */
  macs: number;
  bytes: number;
  encode(pass: GPUComputePassEncoder): void;
}

export interface Operation {
  name: string;
  /** `quick`: a case or two, for the smoke test. */
  cases(gpu: OpenedDevice, quick: boolean): Promise<KernelCase[]>;
}

/** A case of an operation and its times in seconds per `encode`, one per round. */
export interface Timed {
  operation: string;
  case: KernelCase;
  seconds: number[];
}

/** What makes activations is measured for: SmolLM2-135M's width and one of larger models, a decode, a group of rows, and a chunk of a prompt. */
export const ROW_CASES: readonly { format: Activations; width: number; tokens: number }[] = (
  ['int8', 'f32'] as const
).flatMap((format) => [576, 4096].flatMap((width) => [1, 16, 512].map((tokens) => ({ format, width, tokens }))));
