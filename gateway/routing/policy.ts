// Which of the pools that could serve a request gets it. A policy sees what the gateway knows of each pool, and hears what became of its
// choices; it knows neither clock nor network.

/** A pool that serves the model, or can be woken for it. */
export interface Candidate {
  id: string;
  /** Requests that it has; being woken counts as some. */
  load: number;
}

/**
 * A prompt as routers compare it: digests of its pieces, each chained to the one before, so that equal digests are equal beginnings. Empty where
 * nothing may be shared.
 */
export type Pieces = readonly string[];

export interface RoutingPolicy {
  /** Index of the one that is chosen, of one or more. */
  choose(candidates: readonly Candidate[], pieces: Pieces): number;
  /** A pool has computed the prompt, and keeps it for as long as it has room. */
  computed?(poolId: string, pieces: Pieces): void;
  /** The first token took so long, at a pool that had `load` requests when it was chosen. */
  answered?(poolId: string, load: number, firstTokenMs: number): void;
  /** What was known of its cache is void: another process has its name. */
  forget?(poolId: string): void;
}
