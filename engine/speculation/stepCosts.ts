// What a step of so many rows takes, as measured lately: a row is a token whose logits are wanted. What has not been measured lately is
// guessed, hopefully: from the sizes around it, or by the shape that steps have where nothing is known. So a size that may pay is tried
// now and then, and one bad measurement does not put it off for ever.
import { Smoothed } from '../smoothed.ts';

/** What each further row adds to a step, as a share of the time for one, until it is measured. */
const ASSUMED_ROW = 0.25;
/** A measurement counts for so many steps. */
export const FRESH_STEPS = 128;
/** Weight of the newest measurement. */
const WEIGHT = 0.2;
/** A measurement so many times what was expected (a pipeline compiled, another process) counts as only that. */
const MOST_SURPRISE = 2;

export class StepCosts {
  readonly #ms: Float64Array;
  /** Step of the last measurement; -Infinity: none. */
  readonly #measured: Float64Array;
  readonly #promptTokenMs = new Smoothed();
  #steps = 0;

  constructor(maxRows: number) {
    this.#ms = new Float64Array(maxRows + 1);
    this.#measured = new Float64Array(maxRows + 1).fill(Number.NEGATIVE_INFINITY);
  }

  /** A step of `rows` rows and `tokens` - `rows` other tokens, those of prompts, took so long. */
  note(tokens: number, rows: number, elapsedMs: number): void {
    if (tokens < 1 || elapsedMs <= 0) return;
    if (tokens === rows) this.#noteRows(rows, elapsedMs);
    else if (this.#steps > 0) this.#promptTokenMs.note(Math.max(0, elapsedMs - this.ms(rows)) / (tokens - rows));
  }

  #noteRows(rows: number, elapsedMs: number): void {
    const expected = this.#steps > 0 ? this.ms(rows) : elapsedMs;
    const measured = Math.min(elapsedMs, expected * MOST_SURPRISE);
    this.#ms[rows] = this.#fresh(rows) ? expected + WEIGHT * (measured - expected) : measured;
    this.#steps += 1;
    this.#measured[rows] = this.#steps;
  }

  /** Milliseconds that so many tokens of prompts add to a step. */
  promptMs(tokens: number): number {
    return tokens * (this.#promptTokenMs.value ?? ASSUMED_ROW * this.ms(1));
  }

  /** Milliseconds of a step of `rows` rows; before any measurement, in units of a step of one row. */
  ms(rows: number): number {
    if (rows === 0) return 0;
    if (this.#fresh(rows)) return this.#ms[rows]!;
    let below = rows - 1;
    while (below > 0 && !this.#fresh(below)) below -= 1;
    let above = rows + 1;
    while (above < this.#ms.length && !this.#fresh(above)) above += 1;
    const hasAbove = above < this.#ms.length;
    if (below > 0 && hasAbove) {
      const share = (rows - below) / (above - below);
      return this.#ms[below]! + share * (this.#ms[above]! - this.#ms[below]!);
    }
    if (below > 0) return (this.#ms[below]! * assumed(rows)) / assumed(below);
    if (hasAbove) return (this.#ms[above]! * assumed(rows)) / assumed(above);
    return assumed(rows);
  }

  #fresh(rows: number): boolean {
    return rows < this.#ms.length && this.#steps - this.#measured[rows]! < FRESH_STEPS;
  }
}

function assumed(rows: number): number {
  return 1 + ASSUMED_ROW * (rows - 1);
}
