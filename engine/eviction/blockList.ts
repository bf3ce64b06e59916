// Lists of blocks, first in first out, from which any block can leave in O(1): links in flat arrays which the lists share, as long as a
// block is in one of them at a time.

export class BlockLinks {
  readonly next: Int32Array;
  readonly previous: Int32Array;

  constructor(capacityBlocks: number) {
    this.next = new Int32Array(capacityBlocks);
    this.previous = new Int32Array(capacityBlocks);
  }
}

export class BlockList {
  readonly #links: BlockLinks;
  /** -1 when there is none. */
  first = -1;
  #last = -1;
  size = 0;

  constructor(links: BlockLinks) {
    this.#links = links;
  }

  push(block: number): void {
    this.#links.next[block] = -1;
    this.#links.previous[block] = this.#last;
    if (this.#last < 0) this.first = block;
    else this.#links.next[this.#last] = block;
    this.#last = block;
    this.size += 1;
  }

  /** The block is in this list. */
  delete(block: number): void {
    const next = this.#links.next[block]!;
    const previous = this.#links.previous[block]!;
    if (previous < 0) this.first = next;
    else this.#links.next[previous] = next;
    if (next < 0) this.#last = previous;
    else this.#links.previous[next] = previous;
    this.size -= 1;
  }
}
