// How often the token behind a match was the one drawn, by how long the match was: long matches go on, short ones are chance. It is learned at
// every token that a match foretold, drafted or not, so that nothing has to be computed to find out that drafting pays again.

/** Least match of each class. */
const CLASSES = [0, 4, 6, 10, 16] as const;
/** What is assumed before a sequence has shown anything, and as how many tokens that counts. */
const ASSUMED = [0.3, 0.45, 0.6, 0.75, 0.85] as const;
const ASSUMED_WEIGHT = 3;
/** What a token counts when the next one of its class is seen: about the last 20 decide. */
const KEPT = 0.95;

export class HitRates {
  readonly #hits = Float64Array.from(ASSUMED, (rate) => rate * ASSUMED_WEIGHT);
  readonly #seen = new Float64Array(CLASSES.length).fill(ASSUMED_WEIGHT);

  note(matched: number, hit: boolean): void {
    const at = classOf(matched);
    this.#hits[at] = this.#hits[at]! * KEPT + (hit ? 1 : 0);
    this.#seen[at] = this.#seen[at]! * KEPT + 1;
  }

  /** Share of tokens that went on as a match of this length said. */
  rate(matched: number): number {
    const at = classOf(matched);
    return this.#hits[at]! / this.#seen[at]!;
  }
}

function classOf(matched: number): number {
  let at = CLASSES.length - 1;
  while (at > 0 && matched < CLASSES[at]!) at -= 1;
  return at;
}
