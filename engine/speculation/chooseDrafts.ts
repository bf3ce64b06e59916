// How many drafts a step takes on, and whose: as many as make the most expected tokens per millisecond of the whole step. So one
// sequence alone drafts far, and in company, where each row costs what a decode does, nobody drafts. A pure function.
//
//   rate(k) = (tokens without drafts + Σ of the k likeliest drafts' chances to be reached and drawn) / (time of a step with k more rows)

/** Less than this gain in rate is within what steps' times vary by. */
export const MIN_GAIN = 1.05;

/** What one sequence could draft: the chance of each guess to be drawn if all before it are, [count]. */
export interface DraftOffer {
  count: number;
  chances: Float64Array;
}

export interface StepShape {
  /** Tokens that the step advances without drafts: decodes, and of prompts. */
  tokens: number;
  /** Rows without drafts; at least 1. */
  rows: number;
  /** Milliseconds of what is not rows: of prompts. */
  otherMs: number;
  /** Most drafts in all. */
  most: number;
}

/** Of each offer, how many of its first guesses are taken on. `ms`: of a step of so many rows. */
export function chooseDrafts(
  offers: readonly DraftOffer[],
  { tokens, rows, otherMs, most }: StepShape,
  ms: (rows: number) => number,
): number[] {
  const drafts: { offer: number; reach: number }[] = [];
  for (const [offer, { count, chances }] of offers.entries()) {
    let reach = 1;
    for (let i = 0; i < count; i++) {
      reach *= chances[i]!;
      drafts.push({ offer, reach });
    }
  }
  // The order is stable, and no guess is likelier than the one before it: whatever is taken of an offer is its beginning.
  drafts.sort((a, b) => b.reach - a.reach);
  let expected = tokens;
  let bestRate = (tokens / (otherMs + ms(rows))) * MIN_GAIN;
  let taken = 0;
  for (let k = 1; k <= Math.min(most, drafts.length); k++) {
    expected += drafts[k - 1]!.reach;
    const rate = expected / (otherMs + ms(rows + k));
    if (rate <= bestRate) continue;
    bestRate = rate;
    taken = k;
  }
  const counts = offers.map(() => 0);
  for (const { offer } of drafts.slice(0, taken)) counts[offer]! += 1;
  return counts;
}
