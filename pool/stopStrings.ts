// Finds the first of several stop strings in a stream of text pieces, in one pass and however the text is cut into pieces:
// Aho-Corasick (Aho & Corasick 1975) over UTF-16 units. Text that might begin a stop string is held back: exactly the automaton's
// depth. The stop string that ends first wins; of those ending together, the longest, so that the cut is before all of them.

interface Node {
  next: Map<number, Node>;
  /** Longest proper suffix of this node's path that is itself a path. */
  fail: Node | null;
  depth: number;
  /** Longest stop string that ends here, in UTF-16 units; 0: none. */
  match: number;
}

function node(depth: number): Node {
  return { next: new Map(), fail: null, depth, match: 0 };
}

/** The automaton of a request's stop strings: immutable, shared by its choices. */
export class StopSet {
  readonly root: Node;
  readonly size: number;

  /** Stop strings are non-empty; their number and length are bounded by the wire schema. */
  constructor(stops: readonly string[]) {
    this.size = stops.length;
    this.root = node(0);
    for (const stop of stops) {
      let at = this.root;
      for (let i = 0; i < stop.length; i++) {
        const unit = stop.charCodeAt(i);
        let child = at.next.get(unit);
        if (!child) {
          child = node(at.depth + 1);
          at.next.set(unit, child);
        }
        at = child;
      }
      at.match = at.depth;
    }
    this.#link();
  }

  /** Breadth first, so that a node's fail link, which is shallower, is complete before it is used. */
  #link(): void {
    const queue: Node[] = [this.root];
    for (let head = 0; head < queue.length; head++) {
      const parent = queue[head]!;
      for (const [unit, child] of parent.next) {
        child.fail = parent.fail ? this.step(parent.fail, unit) : this.root;
        if (child.match === 0) child.match = child.fail.match;
        queue.push(child);
      }
    }
  }

  step(from: Node, unit: number): Node {
    for (let at: Node | null = from; at; at = at.fail) {
      const next = at.next.get(unit);
      if (next) return next;
    }
    return this.root;
  }
}

/** One choice's position in the search. */
export class StopScanner {
  readonly #set: StopSet;
  #at: Node;
  #held = '';
  #stopped = false;

  constructor(set: StopSet) {
    this.#set = set;
    this.#at = set.root;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that became certain. After a stop string was found, it and everything behind it is gone. */
  push(piece: string): string {
    if (this.#stopped) return '';
    if (this.#set.size === 0) return piece;
    const text = this.#held + piece;
    for (let i = this.#held.length; i < text.length; i++) {
      this.#at = this.#set.step(this.#at, text.charCodeAt(i));
      if (this.#at.match > 0) {
        this.#stopped = true;
        this.#held = '';
        return text.slice(0, i + 1 - this.#at.match);
      }
    }
    const certain = text.length - this.#at.depth;
    this.#held = text.slice(certain);
    return text.slice(0, certain);
  }

  /** What was held back, once nothing can follow. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return this.#stopped ? '' : rest;
  }
}
