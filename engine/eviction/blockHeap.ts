// A binary heap of block ids by a number, from the middle of which any block can leave in O(log n): keys and places are flat arrays, and
// several heaps may share them, as long as a block is in one of them at a time. (engine/indexedHeap.ts does this for a few objects; here are
// 100,000 numbers, and a Map of them would be most of the cost.)
import { invariant } from '../invariant.ts';

/** Keys and places of items [0, capacity): what heaps over the same items share. */
export class HeapKeys {
  readonly keys: Float64Array;
  /** Place in its heap, -1 when in none. */
  readonly places: Int32Array;

  constructor(capacity: number) {
    this.keys = new Float64Array(capacity);
    this.places = new Int32Array(capacity).fill(-1);
  }
}

/** Least key first. Equal keys come in an order that depends on nothing but the history of operations. */
export class BlockHeap {
  readonly #keys: Float64Array;
  readonly #places: Int32Array;
  readonly #items: number[] = [];

  constructor(shared: HeapKeys) {
    this.#keys = shared.keys;
    this.#places = shared.places;
  }

  get size(): number {
    return this.#items.length;
  }

  /** The item with the least key, -1 when there is none. */
  get first(): number {
    return this.#items.length === 0 ? -1 : this.#items[0]!;
  }

  push(item: number, key: number): void {
    invariant(this.#places[item] === -1, 'an item is in one heap at most', { item });
    this.#keys[item] = key;
    this.#items.push(item);
    this.#settle(item, this.#items.length - 1);
  }

  remove(item: number): void {
    const place = this.#places[item]!;
    invariant(place >= 0 && this.#items[place] === item, 'only an item of the heap leaves it', { item });
    this.#places[item] = -1;
    const last = this.#items.pop()!;
    if (last !== item) this.#settle(last, place);
  }

  /** Puts the item into the vacant place, moving it up or down to where it belongs. */
  #settle(item: number, vacant: number): void {
    const items = this.#items;
    const keys = this.#keys;
    const places = this.#places;
    const key = keys[item]!;
    let place = vacant;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = items[parent]!;
      if (keys[above]! <= key) break;
      items[place] = above;
      places[above] = place;
      place = parent;
    }
    for (let child = 2 * place + 1; child < items.length; child = 2 * place + 1) {
      if (child + 1 < items.length && keys[items[child + 1]!]! < keys[items[child]!]!) child += 1;
      const below = items[child]!;
      if (keys[below]! >= key) break;
      items[place] = below;
      places[below] = place;
      place = child;
    }
    items[place] = item;
    places[item] = place;
  }
}
