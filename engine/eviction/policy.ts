// Which cached block leaves when blocks are needed: the contract between the block manager and a policy. The manager knows who may
// leave at all (unreferenced leaves of the prefix tree) and offers only those; a policy orders them. It knows no sequences, no
// tokens and no clock of its own.
//
//   admit ─▶ in use ⇄ idle ─▶ remove       reuse: attached by a request that found it in the cache
//              touch, reuse    insert/delete bracket the time in which it may leave
//
// Time is what the cache has served: one tick for each block admitted or reused. Equal histories thus give equal decisions.

/** Whose cache a block is: a tenant's, or the operator's for public prefixes. */
export interface CacheAccount {
  name: string;
  /** Share of the cache relative to the others', when they want more than there is; > 0. */
  weight: number;
  /** Part of the capacity, 0 to 1, which others' demand never takes from it while it is active. Scaled down where the sum is over 1. */
  floorShare: number;
}

/** What a policy is told of a block when it enters the index. */
export interface BlockFacts {
  account: string;
  /** 53-bit digest of namespace and exact prefix: lets a policy remember reuse across evictions. A hint, never an answer. */
  digest: number;
  /** Blocks before it in its sequence. */
  depth: number;
  /** The block that it continues, in use at this moment as well; -1 for the first of a sequence. */
  parent: number;
  /** Blocks that its request had to compute afresh, this one included. */
  freshBlocks: number;
  /** Fewer than a block's tokens: the end of a sequence, which only an exact continuation hits. */
  partial: boolean;
  /** Soft retention, 0 to 100, 50 by default: higher stays longer; it decays while unused. */
  priority: number;
}

/** Neutral retention priority. */
export const NEUTRAL_PRIORITY = 50;

/**
 * What a priority is worth: a block counts as used that many ticks later, at most one turnover of the cache (sooner, where it is below
 * neutral). An advantage in age is outlived, so it decays while the block is unused and can't pin it.
 */
export function retentionTicks(priority: number, capacityBlocks: number): number {
  return (capacityBlocks * (priority - NEUTRAL_PRIORITY)) / NEUTRAL_PRIORITY;
}

export interface EvictionPolicy {
  readonly name: string;
  /** Blocks that may leave. */
  readonly size: number;
  /** A tenant's weight and floor; the last word counts. Told before its first block. */
  account(account: CacheAccount): void;
  /** The block enters the index: computed, or restored from a tier. It is in use. */
  admit(block: number, facts: BlockFacts): void;
  /** A request found it in the cache and uses it now; `freshBlocks`: what that request still has to compute, 0 where not known. */
  reuse(block: number, freshBlocks: number): void;
  /** Recency alone: a user lets go of it. A sequence's blocks come last to first, so that its head counts as used last. */
  touch(block: number): void;
  /** May leave from now on: nobody uses it and nothing hangs off it. */
  insert(block: number): void;
  /** May no longer leave: in use again, a parent again, or about to be removed. */
  delete(block: number): void;
  /** Has left the index, evicted or discarded. Never while it may leave. */
  remove(block: number): void;
  /** The block to leave next for a block that `account` needs; it stays until deleted. -1 when none may leave. */
  victim(account: string): number;
}
