// S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, SOSP 2023): new blocks pass through a small queue, and only those used again there, or soon after
// they left it, reach the main one; scans never do. Of the leaves of each queue the one that has been in it longest comes first.
import { BlockHeap, HeapKeys } from './blockHeap.ts';
import { type BlockFacts, type EvictionPolicy, retentionTicks } from './policy.ts';
import { UseHistory } from './useHistory.ts';

/** The small queue's part of the capacity, as in the paper. */
const SMALL_PART = 0.1;
/** Uses are counted up to this (two bits in the paper): so many rounds in the main queue at most. */
const MAX_USES = 3;
/** More uses than this in the small queue lead into the main one. */
const SMALL_USES = 1;

export class S3FifoEviction implements EvictionPolicy {
  readonly name = 's3-fifo';
  readonly #capacityBlocks: number;
  /** Uses since it joined its queue, [capacityBlocks]. */
  readonly #uses: Uint8Array;
  readonly #isMain: Uint8Array;
  /** When it joined its queue, and what its priority adds to that. */
  readonly #joinedAt: Float64Array;
  readonly #retained: Float64Array;
  readonly #digests: Float64Array;
  /** Who left the small queue lately: as many as the main one holds. */
  readonly #left: UseHistory;
  readonly #small: BlockHeap;
  readonly #main: BlockHeap;
  /** Blocks of the small queue, in use or not. */
  #smallBlocks = 0;
  #clock = 0;

  constructor(capacityBlocks: number) {
    this.#capacityBlocks = capacityBlocks;
    this.#uses = new Uint8Array(capacityBlocks);
    this.#isMain = new Uint8Array(capacityBlocks);
    this.#joinedAt = new Float64Array(capacityBlocks);
    this.#retained = new Float64Array(capacityBlocks);
    this.#digests = new Float64Array(capacityBlocks);
    this.#left = new UseHistory(Math.max(1, Math.round(capacityBlocks * (1 - SMALL_PART))));
    const keys = new HeapKeys(capacityBlocks);
    this.#small = new BlockHeap(keys);
    this.#main = new BlockHeap(keys);
  }

  get size(): number {
    return this.#small.size + this.#main.size;
  }

  account(): void {}

  admit(block: number, facts: BlockFacts): void {
    this.#digests[block] = facts.digest;
    this.#retained[block] = retentionTicks(facts.priority, this.#capacityBlocks);
    this.#isMain[block] = this.#left.recall(facts.digest);
    if (!this.#isMain[block]) this.#smallBlocks += 1;
    this.#join(block, 0);
  }

  reuse(block: number): void {
    this.#uses[block] = Math.min(MAX_USES, this.#uses[block]! + 1);
  }

  touch(): void {}

  insert(block: number): void {
    const queue = this.#isMain[block] ? this.#main : this.#small;
    queue.push(block, this.#joinedAt[block]! + this.#retained[block]!);
  }

  delete(block: number): void {
    const queue = this.#isMain[block] ? this.#main : this.#small;
    queue.remove(block);
  }

  remove(block: number): void {
    if (this.#isMain[block]) return;
    this.#smallBlocks -= 1;
    this.#left.remember(this.#digests[block]!, 1);
  }

  /** Moves those that earned it on the way: each move is paid for by a use. */
  victim(): number {
    while (this.size > 0) {
      const isFull = this.#smallBlocks >= SMALL_PART * this.#capacityBlocks;
      const fromSmall = this.#small.size > 0 && (isFull || this.#main.size === 0);
      const block = fromSmall ? this.#small.first : this.#main.first;
      const uses = this.#uses[block]!;
      if (uses <= (fromSmall ? SMALL_USES : 0)) return block;
      this.delete(block);
      if (fromSmall) {
        this.#isMain[block] = 1;
        this.#smallBlocks -= 1;
      }
      this.#join(block, fromSmall ? 0 : uses - 1);
      this.insert(block);
    }
    return -1;
  }

  #join(block: number, uses: number): void {
    this.#uses[block] = uses;
    this.#clock += 1;
    this.#joinedAt[block] = this.#clock;
  }
}
