// A bell between what happens and the loop that waits for something to happen. A ring while nobody waits is kept for the next wait,
// so none is missed; many rings are one.

export class WakeUp {
  #rung = false;
  #answer: (() => void) | null = null;

  ring(): void {
    this.#rung = true;
    this.#answer?.();
  }

  /** Resolves at the first ring since the last wait ended. One waits at a time. */
  async wait(): Promise<void> {
    if (!this.#rung)
      await new Promise<void>((resolve) => {
        this.#answer = resolve;
      });
    this.#answer = null;
    this.#rung = false;
  }
}
