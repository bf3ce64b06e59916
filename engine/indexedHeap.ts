// The least of a changing set: a binary heap that finds its items again, so that one may leave or change its key in O(log n). It knows
// nothing of what its items are. A key may only change together with a call of `moved`.
import { invariant } from './invariant.ts';

export class IndexedHeap<T extends object> {
  readonly #items: T[] = [];
  readonly #place = new Map<T, number>();
  readonly #before: (a: T, b: T) => boolean;

  /** `before`: a strict total order, so that equal runs give equal results. */
  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  has(item: T): boolean {
    return this.#place.has(item);
  }

  add(item: T): void {
    invariant(!this.#place.has(item), 'an item is in a heap once');
    this.#items.push(item);
    this.#settle(item, this.#items.length - 1);
  }

  /** false when it is not in it. */
  delete(item: T): boolean {
    const place = this.#place.get(item);
    if (place === undefined) return false;
    this.#place.delete(item);
    const last = this.#items.pop()!;
    if (last !== item) this.#settle(last, place);
    return true;
  }

  /** The item's key has changed. */
  moved(item: T): void {
    const place = this.#place.get(item);
    invariant(place !== undefined, 'only an item of the heap moves in it');
    this.#settle(item, place);
  }

  /** In no particular order. */
  [Symbol.iterator](): Iterator<T> {
    return this.#items.values();
  }

  /** Puts the item into the vacant place, then up or down to where it belongs. */
  #settle(item: T, vacant: number): void {
    const items = this.#items;
    let place = vacant;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.#before(item, items[parent]!)) break;
      this.#put(items[parent]!, place);
      place = parent;
    }
    for (let child = 2 * place + 1; child < items.length; child = 2 * place + 1) {
      if (child + 1 < items.length && this.#before(items[child + 1]!, items[child]!)) child += 1;
      if (!this.#before(items[child]!, item)) break;
      this.#put(items[child]!, place);
      place = child;
    }
    this.#put(item, place);
  }

  #put(item: T, place: number): void {
    this.#items[place] = item;
    this.#place.set(item, place);
  }
}
