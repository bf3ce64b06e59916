// What guesses the next tokens of one sequence. A guess is never believed: it is computed beside the sequence's last token, and taken only
// where the seeded sampler draws that very token. So a drafter is free in what it does, and answers for speed alone.
//
// It says of each guess what chance it gives it, from the sequence's own past: what other requests do must not be seen in its timing.
// A model that drafts would compute its guesses in steps of its own, and answer here with what it has by then.

export interface Drafter {
  /**
   * Guesses what follows `tokens[0, length)`: writes at most `most` ids into `ids`, and beside each the chance, 0 to 1, that it is drawn if
   * all before it are. Returns how many. From call to call `tokens` only grow.
   */
  draft(tokens: Int32Array, length: number, most: number, ids: Int32Array, chances: Float64Array): number;
}

export interface SpeculationOptions {
  /** A drafter for a sequence whose output begins at `promptLength`, and which never has more than `mostTokens`. */
  open: (promptLength: number, mostTokens: number) => Drafter;
  /** Most guesses per sequence and step. */
  maxDraftTokens: number;
}
