// Who is next. Between tenants the Virtual Token Counter: each tenant has a counter of the service it got, divided by its weight, and
// the one with the least goes first; a tenant that comes back to an empty queue is lifted to the others' level, so that idling
// earns no credit. Within a tenant: priority, then arrival. Preempted sequences go before all, oldest first.
// Source: Sheng et al., "Fairness in Serving Large Language Models" (OSDI'24), algorithm 2.
import { invariant } from './invariant.ts';
import type { Sequence } from './sequence.ts';

/** What service costs: a prompt token that the cache did not answer, and an output token. */
const PROMPT_TOKEN_COST = 1;
const OUTPUT_TOKEN_COST = 2;

/** Idle tenants whose counters are remembered. Forgetting one merely forgives its debt, and the least recently active goes first. */
export const MAX_IDLE_TENANTS = 4096;

interface Tenant {
  /** Cost of the service it got, divided by its weight. */
  served: number;
  /** Cost of what is admitted but not computed yet. Counts at the next admission, so that one tenant cannot take all slots at once. */
  owed: number;
  weight: number;
  /** Sequences that have not ended. */
  alive: number;
  /** By priority, then arrival. */
  waiting: Sequence[];
  waitingTokens: number;
}

/** Tokens that a sequence may compute: what it weighs in a queue. */
export function queueTokens(sequence: Sequence): number {
  return sequence.tokens.length;
}

function byPriority(a: Sequence, b: Sequence): number {
  return b.request.priority - a.request.priority || a.arrival - b.arrival;
}

function insertSorted(list: Sequence[], sequence: Sequence, order: (a: Sequence, b: Sequence) => number): void {
  let low = 0;
  for (let high = list.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (order(list[middle]!, sequence) < 0) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, sequence);
}

export class FairQueue {
  /** In order of last activity, so that the longest idle is found first. */
  readonly #tenants = new Map<string, Tenant>();
  readonly #preempted: Sequence[] = [];
  #idle = 0;
  #waiting = 0;
  #waitingTokens = 0;
  /** The tenant whose queue emptied last: its counter is the level when nobody waits. */
  #lastToLeave: Tenant | null = null;

  /** Sequences and their tokens in the queue, preempted ones included. */
  get size(): number {
    return this.#waiting + this.#preempted.length;
  }

  /** Without preempted ones: what the bounds of the queue count. */
  get waiting(): number {
    return this.#waiting;
  }

  get waitingTokens(): number {
    return this.#waitingTokens;
  }

  waitingOf(tenant: string): { sequences: number; tokens: number } {
    const entry = this.#tenants.get(tenant);
    return { sequences: entry?.waiting.length ?? 0, tokens: entry?.waitingTokens ?? 0 };
  }

  /** Service that the tenant got, weighted. */
  served(tenant: string): number {
    return this.#tenants.get(tenant)?.served ?? 0;
  }

  /** A new sequence joins. */
  push(sequence: Sequence): void {
    const { tenant: name, weight } = sequence.request;
    let tenant = this.#tenants.get(name);
    if (!tenant) {
      tenant = { served: 0, owed: 0, weight, alive: 0, waiting: [], waitingTokens: 0 };
      this.#tenants.set(name, tenant);
    } else if (tenant.alive === 0) this.#idle -= 1;
    if (tenant.waiting.length === 0) tenant.served = Math.max(tenant.served, this.#level());
    tenant.weight = weight;
    tenant.alive += 1;
    insertSorted(tenant.waiting, sequence, byPriority);
    tenant.waitingTokens += queueTokens(sequence);
    this.#waiting += 1;
    this.#waitingTokens += queueTokens(sequence);
  }

  /** A preempted sequence comes back to the head of the queue. */
  requeue(sequence: Sequence): void {
    insertSorted(this.#preempted, sequence, (a, b) => a.arrival - b.arrival);
  }

  /** The preempted sequence that goes before all others. */
  firstPreempted(): Sequence | undefined {
    return this.#preempted[0];
  }

  /** The least served tenant's first sequence that is not put off; null when there is none. */
  first(putOff: ReadonlySet<Sequence>): Sequence | null {
    let best: Sequence | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const tenant of this.#tenants.values()) {
      const service = tenant.served + tenant.owed / tenant.weight;
      if (tenant.waiting.length === 0 || service >= least) continue;
      const candidate = tenant.waiting.find((sequence) => !putOff.has(sequence));
      if (!candidate) continue;
      best = candidate;
      least = service;
    }
    return best;
  }

  /** Takes a sequence out of the queue, to run or because it ended; false when it is not in it. */
  remove(sequence: Sequence): boolean {
    const place = this.#preempted.indexOf(sequence);
    if (place >= 0) {
      this.#preempted.splice(place, 1);
      return true;
    }
    const tenant = this.#tenantOf(sequence);
    const index = tenant.waiting.indexOf(sequence);
    if (index < 0) return false;
    tenant.waiting.splice(index, 1);
    tenant.waitingTokens -= queueTokens(sequence);
    this.#waiting -= 1;
    this.#waitingTokens -= queueTokens(sequence);
    if (tenant.waiting.length === 0) this.#lastToLeave = tenant;
    return true;
  }

  /** The sequence has ended and is in no queue any more. */
  leave(sequence: Sequence): void {
    const name = sequence.request.tenant;
    const tenant = this.#tenantOf(sequence);
    tenant.alive -= 1;
    if (tenant.alive > 0) return;
    this.#tenants.delete(name);
    this.#tenants.set(name, tenant);
    this.#idle += 1;
    if (this.#idle <= MAX_IDLE_TENANTS) return;
    for (const [other, { alive }] of this.#tenants) {
      if (alive > 0) continue;
      this.#tenants.delete(other);
      this.#idle -= 1;
      return;
    }
  }

  /** The sequence is admitted: what is unpaid of its prompt will be computed. */
  owe(sequence: Sequence): void {
    this.#tenantOf(sequence).owed += sequence.unpaid * PROMPT_TOKEN_COST;
  }

  /** The sequence stops running: undoes `owe`. */
  disown(sequence: Sequence): void {
    this.#tenantOf(sequence).owed -= sequence.unpaid * PROMPT_TOKEN_COST;
  }

  /** Tokens of a running sequence that were computed and released. A prompt token is charged once, however often it is computed. */
  charge(sequence: Sequence, computed: number, released: number): void {
    const tenant = this.#tenantOf(sequence);
    const paid = Math.min(sequence.unpaid, computed);
    sequence.unpaid -= paid;
    tenant.owed -= paid * PROMPT_TOKEN_COST;
    tenant.served += (paid * PROMPT_TOKEN_COST + released * OUTPUT_TOKEN_COST) / tenant.weight;
  }

  /** Order in which running sequences share what a step has left: least served tenant, then priority, then arrival. */
  compare(a: Sequence, b: Sequence): number {
    return this.#tenantOf(a).served - this.#tenantOf(b).served || byPriority(a, b);
  }

  /** All queued sequences. */
  *[Symbol.iterator](): Generator<Sequence> {
    yield* this.#preempted;
    for (const tenant of this.#tenants.values()) yield* tenant.waiting;
  }

  #level(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const tenant of this.#tenants.values()) if (tenant.waiting.length > 0) least = Math.min(least, tenant.served);
    return Number.isFinite(least) ? least : (this.#lastToLeave?.served ?? 0);
  }

  #tenantOf(sequence: Sequence): Tenant {
    const tenant = this.#tenants.get(sequence.request.tenant);
    invariant(tenant && tenant.alive > 0, 'the tenant of a living sequence is known');
    return tenant;
  }
}
