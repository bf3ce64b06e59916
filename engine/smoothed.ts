// Exponentially smoothed mean of a measured quantity: the last few measurements count, none alone decides.

/** Weight of the newest measurement. */
const WEIGHT = 0.2;

export class Smoothed {
  #value: number | null = null;

  /** null before the first measurement. */
  get value(): number | null {
    return this.#value;
  }

  note(measured: number): void {
    this.#value = this.#value === null ? measured : this.#value + WEIGHT * (measured - this.#value);
  }
}
