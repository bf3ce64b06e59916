// What the kernel bench measures: an operation gives cases, a case is work that can be encoded again and again. `peaks.ts` is one of them, so that
// shares of a peak come from the same minute and the same machine.
import type { OpenedDevice } from '../../engine/gpu/device.ts';

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
