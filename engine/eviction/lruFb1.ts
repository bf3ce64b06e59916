// LRU with a bonus for use: the block with the least `last use + capacity × min(uses - 1, 3)` leaves first, and before all of them
// the partly filled ends of sequences, which only an exact continuation hits. Uses are remembered across evictions.
import { BlockHeap, HeapKeys } from './blockHeap.ts';
import { type BlockFacts, type EvictionPolicy, retentionTicks } from './policy.ts';
import { UseHistory } from './useHistory.ts';

/** Uses beyond the first that count: more say little, and a block that was popular once should not stay for ever. */
const MAX_BONUS_USES = 3;
/** Evicted blocks whose uses are remembered: some turnovers of the cache; of a small one many, because its blocks leave long before they return. */
const HISTORY_CAPACITIES = 8;
const MIN_HISTORY_BLOCKS = 65_536;
/** Below any time that a block can have been used at. */
const PARTIAL_PENALTY_TICKS = 1e15;

export class LruFb1Eviction implements EvictionPolicy {
  readonly name = 'lru-fb1';
  readonly #capacityBlocks: number;
  readonly #usedAt: Float64Array;
  /** What priority and being partial add to that. */
  readonly #shift: Float64Array;
  readonly #uses: Int32Array;
  readonly #digests: Float64Array;
  readonly #history: UseHistory;
  readonly #leaves: BlockHeap;
  /** Blocks served. */
  #now = 0;

  constructor(capacityBlocks: number) {
    this.#capacityBlocks = capacityBlocks;
    this.#usedAt = new Float64Array(capacityBlocks);
    this.#shift = new Float64Array(capacityBlocks);
    this.#uses = new Int32Array(capacityBlocks);
    this.#digests = new Float64Array(capacityBlocks);
    this.#history = new UseHistory(Math.max(MIN_HISTORY_BLOCKS, HISTORY_CAPACITIES * capacityBlocks));
    this.#leaves = new BlockHeap(new HeapKeys(capacityBlocks));
  }

  get size(): number {
    return this.#leaves.size;
  }

  account(): void {}

  admit(block: number, facts: BlockFacts): void {
    this.#digests[block] = facts.digest;
    this.#uses[block] = this.#history.recall(facts.digest);
    this.#shift[block] =
      retentionTicks(facts.priority, this.#capacityBlocks) - (facts.partial ? PARTIAL_PENALTY_TICKS : 0);
    this.reuse(block);
  }

  reuse(block: number): void {
    this.#now += 1;
    this.#uses[block]! += 1;
    this.touch(block);
  }

  touch(block: number): void {
    this.#usedAt[block] = this.#now;
  }

  insert(block: number): void {
    const bonus = this.#capacityBlocks * Math.min(this.#uses[block]! - 1, MAX_BONUS_USES);
    this.#leaves.push(block, this.#usedAt[block]! + bonus + this.#shift[block]!);
  }

  delete(block: number): void {
    this.#leaves.remove(block);
  }

  remove(block: number): void {
    this.#history.remember(this.#digests[block]!, this.#uses[block]!);
  }

  victim(): number {
    return this.#leaves.first;
  }
}
