// A bounded number of pieces of work at once; the others wait in order.
import { invariant } from '../invariant.ts';

export class Slots {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(slots: number) {
    this.#free = slots;
  }

  /** Resolves when a slot is the caller's, who gives it back. */
  async take(): Promise<void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
    invariant(next || this.#free > 0, 'a slot that was taken comes back');
  }
}
