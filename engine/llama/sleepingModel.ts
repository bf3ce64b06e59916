// A llama model that can sleep: its device, its compiled pipelines and the choice of kernels stay, its weights go to host memory, and
// every buffer is given back. A device that was lost is opened anew, with all of it.
import type { OpenedDevice } from '../gpu/device.ts';
import { invariant } from '../invariant.ts';
import type { ModelRunner } from '../modelRunner.ts';
import type { SleepingModel } from '../sleepingRunner.ts';
import { holdWeights } from './heldWeights.ts';
import { type BuiltRunner, buildLlamaRunner, type Remains, type RunnerOptions } from './runner.ts';

export class SleepingLlama implements SleepingModel {
  readonly #options: Omit<RunnerOptions, 'gpu'>;
  readonly #openGpu: () => Promise<OpenedDevice>;
  #gpu: OpenedDevice | null = null;
  #built: BuiltRunner | null = null;
  #remains: Remains | null = null;

  /** `openGpu`: a device for this model alone, as often as one is lost. */
  constructor(options: Omit<RunnerOptions, 'gpu'>, openGpu: () => Promise<OpenedDevice>) {
    this.#options = options;
    this.#openGpu = openGpu;
  }

  get deviceBytes(): number {
    return this.#gpu?.memory.bytes ?? 0;
  }

  /** As the driver names it; empty before the first opening. */
  get adapterName(): string {
    return this.#gpu?.adapterName ?? '';
  }

  async giveBack(): Promise<void> {
    const gpu = this.#gpu;
    const built = this.#built;
    invariant(gpu && built, 'who gives back has something');
    this.#built = null;
    try {
      const weights = await holdWeights(gpu.device, built.weights.buffers);
      await gpu.memory.giveBack();
      this.#remains = { compiled: built.compiled, weights };
    } catch {
      // The device is lost, and its memory with it: who wakes opens another.
      gpu.destroy();
      this.#gpu = null;
    }
  }

  async open(): Promise<ModelRunner> {
    // A device whose model neither runs nor sleeps is lost, or was left by an opening that failed.
    if (!this.#remains) await this.#openDevice();
    const gpu = this.#gpu;
    invariant(gpu, 'a device was opened');
    try {
      this.#built = await buildLlamaRunner({ ...this.#options, gpu }, this.#remains);
      return this.#built.runner;
    } finally {
      this.#remains = null;
    }
  }

  destroy(): void {
    this.#gpu?.destroy();
  }

  async #openDevice(): Promise<void> {
    this.#built = null;
    this.#gpu?.destroy();
    this.#gpu = await this.#openGpu();
    const gpu = this.#gpu;
    // What was compiled for it is gone with it, also in its sleep.
    gpu.lost.then(() => {
      if (gpu === this.#gpu) this.#remains = null;
    });
  }
}
