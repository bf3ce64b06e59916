// What the scheduler remembers of a tenant: the counter of its service, what is promised to it, and its part of the queue.
// Within a tenant higher priority goes first, then the earlier deadline, then arrival.
import type { Sequence } from './sequence.ts';

/** Order of a tenant's sequences. Strict: arrivals are unique. */
export function withinTenant(a: Sequence, b: Sequence): number {
  const { priority, deadlineMs } = a.request;
  if (priority !== b.request.priority) return b.request.priority - priority;
  if (deadlineMs !== b.request.deadlineMs) return deadlineMs < b.request.deadlineMs ? -1 : 1;
  return a.arrival - b.arrival;
}

/** Where a sequence belongs in an ordered list: the number of those before it. */
function placeIn(list: readonly Sequence[], sequence: Sequence, compare: (a: Sequence, b: Sequence) => number): number {
  let low = 0;
  for (let high = list.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (compare(list[middle]!, sequence) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Sequences in a strict order: the first is had at once, any is found in O(log n). */
export class OrderedSequences {
  readonly #list: Sequence[] = [];
  readonly #compare: (a: Sequence, b: Sequence) => number;

  constructor(compare: (a: Sequence, b: Sequence) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#list.length;
  }

  get first(): Sequence | undefined {
    return this.#list[0];
  }

  add(sequence: Sequence): void {
    this.#list.splice(placeIn(this.#list, sequence, this.#compare), 0, sequence);
  }

  /** false when it is not in it. */
  delete(sequence: Sequence): boolean {
    const place = placeIn(this.#list, sequence, this.#compare);
    if (this.#list[place] !== sequence) return false;
    this.#list.splice(place, 1);
    return true;
  }

  [Symbol.iterator](): Iterator<Sequence> {
    return this.#list.values();
  }
}

export class Tenant {
  readonly name: string;
  weight: number;
  /** Cost of the service it got, divided by its weight. */
  served = 0;
  /** Cost of what is admitted but not computed yet. Counts at the next admission, so that one tenant cannot take all slots at once. */
  owed = 0;
  /** Sequences that have not ended. */
  alive = 0;
  readonly ready = new OrderedSequences(withinTenant);
  /** Its sequences that wait for another's prompt. */
  readonly following = new Set<Sequence>();
  /** Tokens of those ready and following. */
  waitingTokens = 0;
  /** Since the tenant is remembered, for attribution: tokens that its steps computed, recomputed ones included; times preempted. */
  computedTokens = 0;
  outputTokens = 0;
  preemptions = 0;

  constructor(name: string, weight: number) {
    this.name = name;
    this.weight = weight;
  }

  get waiting(): number {
    return this.ready.size + this.following.size;
  }

  /** Service including what is promised: what admission goes by. */
  get projected(): number {
    return this.served + this.owed / this.weight;
  }

  /** The same for the division of a step, where no more than `most` promised tokens count: a long prompt is no debt for all its length. */
  projectedWithin(most: number): number {
    return this.served + Math.min(this.owed, most) / this.weight;
  }
}
