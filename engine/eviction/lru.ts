// Least recently used first, whoever it is of: by a logical counter of uses.
import { invariant } from '../invariant.ts';
import { BlockHeap, HeapKeys } from './blockHeap.ts';
import { type BlockFacts, type EvictionPolicy, retentionTicks } from './policy.ts';

/** A heap and not a list, because a parent that becomes a leaf joins in the middle of the order. */
export class LruEviction implements EvictionPolicy {
  readonly name = 'lru';
  readonly #capacityBlocks: number;
  /** Logical time of the last use, [capacityBlocks]. */
  readonly #usedAt: Float64Array;
  /** What its priority adds to that, [capacityBlocks]. */
  readonly #retained: Float64Array;
  readonly #keys: HeapKeys;
  readonly #leaves: BlockHeap;
  #clock = 0;

  constructor(capacityBlocks: number) {
    this.#capacityBlocks = capacityBlocks;
    this.#usedAt = new Float64Array(capacityBlocks);
    this.#retained = new Float64Array(capacityBlocks);
    this.#keys = new HeapKeys(capacityBlocks);
    this.#leaves = new BlockHeap(this.#keys);
  }

  get size(): number {
    return this.#leaves.size;
  }

  account(): void {}

  admit(block: number, facts: BlockFacts): void {
    this.#retained[block] = retentionTicks(facts.priority, this.#capacityBlocks);
    this.touch(block);
  }

  reuse(block: number): void {
    this.touch(block);
  }

  touch(block: number): void {
    invariant(this.#keys.places[block] === -1, 'a block in the order is not in use', { block });
    this.#usedAt[block] = ++this.#clock;
  }

  insert(block: number): void {
    this.#leaves.push(block, this.#usedAt[block]! + this.#retained[block]!);
  }

  delete(block: number): void {
    this.#leaves.remove(block);
  }

  remove(block: number): void {
    invariant(this.#keys.places[block] === -1, 'a block that may leave is deleted before it is removed', { block });
    this.#retained[block] = 0;
  }

  victim(): number {
    return this.#leaves.first;
  }
}
