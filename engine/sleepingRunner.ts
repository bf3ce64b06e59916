// A model runner that can give the device's memory back, and take it again: to whoever holds it, it stays the same runner, with the same
// blocks, which are empty after each sleep.
import { invariant } from './invariant.ts';
import type { ModelRunner, StepChunk, StepResult } from './modelRunner.ts';
import type { BlockTransfer } from './tiers/port.ts';

/** What knows how to open a runner again. */
export interface SleepingModel {
  /** Bytes of device memory in use. */
  readonly deviceBytes: number;
  /** Gives all device memory back, and keeps what makes opening quick; nothing where the device was lost. */
  giveBack(): Promise<void>;
  /** The runner anew: from what was kept, or as at the first time where the device was lost. Throws what opening throws. */
  open(): Promise<ModelRunner>;
  destroy(): void;
}

export class SleepingRunner implements ModelRunner {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly capacityBlocks: number;
  readonly maxStepTokens: number;
  readonly maxStepLogits: number;
  readonly stepsInFlight: number;
  readonly slots: number;
  readonly fingerprint: string;
  readonly transfer: BlockTransfer;
  readonly #model: SleepingModel;
  #runner: ModelRunner | null;

  private constructor(model: SleepingModel, first: ModelRunner) {
    this.#model = model;
    this.#runner = first;
    this.vocabSize = first.vocabSize;
    this.contextLength = first.contextLength;
    this.capacityBlocks = first.capacityBlocks;
    this.maxStepTokens = first.maxStepTokens;
    this.maxStepLogits = first.maxStepLogits;
    this.stepsInFlight = first.stepsInFlight;
    this.slots = first.slots;
    this.fingerprint = first.fingerprint;
    this.transfer = new AwakeTransfer(first.transfer, () => this.#runner?.transfer ?? null);
  }

  static async open(model: SleepingModel): Promise<SleepingRunner> {
    return new SleepingRunner(model, await model.open());
  }

  get deviceBytes(): number {
    return this.#model.deviceBytes;
  }

  /** Nothing may be in flight. What blocks hold is gone. */
  async sleep(): Promise<void> {
    invariant(this.#runner, 'who sleeps was awake');
    this.#runner = null;
    await this.#model.giveBack();
  }

  /** From sleep, or after the device was lost. Throws what opening throws; it may be tried again. */
  async wake(): Promise<void> {
    this.#runner = null;
    const runner = await this.#model.open();
    invariant(runner.fingerprint === this.fingerprint, 'who wakes computes the same bits', {
      before: this.fingerprint,
      now: runner.fingerprint,
    });
    this.#runner = runner;
  }

  step(chunks: readonly StepChunk[]): Promise<StepResult> {
    return this.#awake.step(chunks);
  }

  copyBlock(from: number, to: number, tokens: number): void {
    this.#awake.copyBlock(from, to, tokens);
  }

  destroy(): void {
    this.#model.destroy();
  }

  get #awake(): ModelRunner {
    invariant(this.#runner, 'who computes is awake');
    return this.#runner;
  }
}

/** The transfer of whichever runner is open. Nothing can be read from one that isn't. */
class AwakeTransfer implements BlockTransfer {
  readonly blockBytes: number;
  readonly #current: () => BlockTransfer | null;
  #writeMs: number;

  constructor(first: BlockTransfer, current: () => BlockTransfer | null) {
    this.blockBytes = first.blockBytes;
    this.#writeMs = first.writeMs;
    this.#current = current;
  }

  get writeMs(): number {
    this.#writeMs = this.#current()?.writeMs ?? this.#writeMs;
    return this.#writeMs;
  }

  readBlock(block: number): Promise<Uint8Array | null> | null {
    return this.#current()?.readBlock(block) ?? null;
  }

  writeBlock(block: number, bytes: Uint8Array): void {
    const current = this.#current();
    invariant(current, 'blocks are written to who is awake');
    current.writeBlock(block, bytes);
  }
}
