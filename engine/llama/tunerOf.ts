// The tuner of a device that a runner is being made on: its clock, its file, its budget.

import { identityOf, type OpenedDevice } from '../gpu/device.ts';
import { clockFor } from '../gpu/deviceClock.ts';
import { Tuner } from '../tuning/tuner.ts';
import { VerdictFile } from '../tuning/verdictFile.ts';

export interface TuningOptions {
  /** What was measured, of all adapters and models. */
  file: string;
  /** For everything that a start measures, compiling included. */
  budgetMs: number;
}

interface Listeners {
  onProgress?: (stage: 'tuning', done: number, total: number) => void;
  onNotice?: (message: string) => void;
}

export async function tunerOf(gpu: OpenedDevice, tuning: TuningOptions, listeners: Listeners): Promise<Tuner> {
  return new Tuner({
    device: gpu.device,
    clock: clockFor(gpu.software),
    now: () => performance.now(),
    file: await VerdictFile.open(tuning.file, identityOf(gpu).join(' ')),
    budgetMs: tuning.budgetMs,
    onProgress: (done, total) => listeners.onProgress?.('tuning', done, total),
    onNotice: (message) => listeners.onNotice?.(message),
  });
}
