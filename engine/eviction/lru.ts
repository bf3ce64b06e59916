// Least recently used first, whoever it is of: by a logical counter of uses.
import { invariant } from '../invariant.ts';
import type { EvictionPolicy } from './policy.ts';

/**
 * A binary heap with each block's place in it, because a parent that becomes a leaf joins in the middle
 * of the order: O(log n) for every operation.
 */
export class LruEviction implements EvictionPolicy {
  readonly name = 'lru';
  /** Logical time of the last use, [capacityBlocks]. */
  readonly #usedAt: Float64Array;
  /** Place in the heap, -1 when absent, [capacityBlocks]. */
  readonly #place: Int32Array;
  readonly #heap: Int32Array;
  #size = 0;
  #clock = 0;

  constructor(capacityBlocks: number) {
    this.#usedAt = new Float64Array(capacityBlocks);
    this.#place = new Int32Array(capacityBlocks).fill(-1);
    this.#heap = new Int32Array(capacityBlocks);
  }

  get size(): number {
    return this.#size;
  }

  account(): void {}

  admit(block: number): void {
    this.touch(block);
  }

  reuse(block: number): void {
    this.touch(block);
  }

  remove(): void {}

  touch(block: number): void {
    invariant(this.#place[block] === -1, 'a block in the order is not in use', { block });
    this.#usedAt[block] = ++this.#clock;
  }

  insert(block: number): void {
    invariant(this.#place[block] === -1, 'a block joins the order once', { block });
    this.#size += 1;
    this.#settle(block, this.#size - 1);
  }

  delete(block: number): void {
    const place = this.#place[block]!;
    invariant(place >= 0, 'only a block in the order leaves it', { block });
    this.#place[block] = -1;
    this.#size -= 1;
    if (place < this.#size) this.#settle(this.#heap[this.#size]!, place);
  }

  victim(): number {
    return this.#size === 0 ? -1 : this.#heap[0]!;
  }

  #before(a: number, b: number): boolean {
    return this.#usedAt[a]! < this.#usedAt[b]!;
  }

  /** Puts the block into the vacant place, moving it up or down to where it belongs. */
  #settle(block: number, vacant: number): void {
    const heap = this.#heap;
    let place = vacant;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.#before(block, heap[parent]!)) break;
      this.#put(heap[parent]!, place);
      place = parent;
    }
    for (let child = 2 * place + 1; child < this.#size; child = 2 * place + 1) {
      if (child + 1 < this.#size && this.#before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!this.#before(heap[child]!, block)) break;
      this.#put(heap[child]!, place);
      place = child;
    }
    this.#put(block, place);
  }

  #put(block: number, place: number): void {
    this.#heap[place] = block;
    this.#place[block] = place;
  }
}
