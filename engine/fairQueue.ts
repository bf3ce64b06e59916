// Who is next. Between tenants the Virtual Token Counter: each tenant has a counter of the service it got, divided by its weight, and
// the one with the least goes first; a tenant that comes back to an empty queue is lifted to the others' level less a small credit, so
// that idling earns no more than that, and who asks seldom goes before who always waits. Two tenants that both have something waiting
// therefore never differ by more than the credit and twice what one can get between two admissions. Preempted sequences go before
// all, oldest first.
// Sources: Sheng et al., "Fairness in Serving Large Language Models" (OSDI'24), algorithm 2 and theorem 4.4; the credit is what FQ-CoDel
// (RFC 8290) gives to sparse flows.
import { IndexedHeap } from './indexedHeap.ts';
import { invariant } from './invariant.ts';
import type { Sequence } from './sequence.ts';
import { OrderedSequences, Tenant, withinTenant } from './tenant.ts';

/** What service costs, per token. */
export interface TokenCosts {
  /** A prompt token that had to be computed. */
  prompt: number;
  /**
   * A prompt token that a cache answered. It takes no matrix product, but every later token attends to it and its blocks are held; at 0
   * a tenant with one long cached prompt would be admitted without end. A tenth is also what the field's price lists ask.
   */
  cached: number;
  /** An output token that was released. Drafts that were rejected cost their tenant nothing. */
  output: number;
}

export const DEFAULT_TOKEN_COSTS: TokenCosts = { prompt: 1, cached: 0.1, output: 2 };

/**
 * Promised prompt tokens count in the division of a step up to so many steps' worth. So a tenant that comes with a short prompt goes before
 * one with long prompts in progress, and a very long one still takes turns with short ones rather than waiting for all its length.
 */
const PROMISED_STEPS = 4;

/** Idle tenants whose counters are remembered. Forgetting one merely forgives its debt, and the least recently active goes first. */
export const MAX_IDLE_TENANTS = 4096;

/** Tokens that a sequence may compute: what it weighs in a queue. */
export function queueTokens(sequence: Sequence): number {
  return sequence.tokens.length;
}

export class FairQueue {
  readonly #costs: TokenCosts;
  readonly #credit: number;
  /** In order of last activity, so that the longest idle is found first. */
  readonly #tenants = new Map<string, Tenant>();
  /** Tenants with a sequence that is ready. */
  readonly #ready = new IndexedHeap<Tenant>(
    (a, b) => (a.projected - b.projected || a.ready.first!.arrival - b.ready.first!.arrival) < 0,
  );
  readonly #preempted = new OrderedSequences((a, b) => a.arrival - b.arrival);
  #idle = 0;
  #waiting = 0;
  #waitingTokens = 0;
  #activeWeight = 0;
  /** The tenant whose queue emptied last: its counter is the level when nobody waits. */
  #lastToLeave: Tenant | null = null;

  /** `credit`: service, at weight 1, by which a tenant that comes back may be below the others. */
  constructor(costs: TokenCosts = DEFAULT_TOKEN_COSTS, credit = 0) {
    this.#costs = costs;
    this.#credit = credit;
  }

  /** Sequences in the queue, preempted ones included. */
  get size(): number {
    return this.#waiting + this.#preempted.size;
  }

  /** Without preempted ones: what the bounds of the queue count. */
  get waiting(): number {
    return this.#waiting;
  }

  get waitingTokens(): number {
    return this.#waitingTokens;
  }

  /** Sum of the weights of the tenants with a sequence that lives. */
  get activeWeight(): number {
    return this.#activeWeight;
  }

  waitingOf(tenant: string): { sequences: number; tokens: number } {
    const entry = this.#tenants.get(tenant);
    return { sequences: entry?.waiting ?? 0, tokens: entry?.waitingTokens ?? 0 };
  }

  /** Part of all service that a tenant of this weight gets beside those that wait now, itself included; 0 to 1. */
  shareOf(name: string, weight: number): number {
    let total = weight;
    for (const tenant of this.#ready) if (tenant.name !== name) total += tenant.weight;
    return weight / total;
  }

  /** Service that the tenant got, weighted. */
  served(tenant: string): number {
    return this.#tenants.get(tenant)?.served ?? 0;
  }

  /** Service of the sequence's tenant, with what is promised to it. */
  projected(sequence: Sequence): number {
    return this.tenantOf(sequence).projected;
  }

  /** Every remembered tenant, the longest idle first. */
  tenants(): IterableIterator<Tenant> {
    return this.#tenants.values();
  }

  tenantOf(sequence: Sequence): Tenant {
    const tenant = this.#tenants.get(sequence.request.tenant);
    invariant(tenant && tenant.alive > 0, 'the tenant of a living sequence is known');
    return tenant;
  }

  /** A new sequence joins. */
  push(sequence: Sequence): void {
    const { tenant: name, weight } = sequence.request;
    let tenant = this.#tenants.get(name);
    if (!tenant) {
      tenant = new Tenant(name, weight);
      this.#tenants.set(name, tenant);
    } else if (tenant.alive === 0) this.#idle -= 1;
    if (tenant.waiting === 0) tenant.served = Math.max(tenant.served, this.#level() - this.#credit / weight);
    this.#activeWeight += weight - (tenant.alive === 0 ? 0 : tenant.weight);
    tenant.weight = weight;
    tenant.alive += 1;
    tenant.waitingTokens += queueTokens(sequence);
    this.#waiting += 1;
    this.#waitingTokens += queueTokens(sequence);
    this.#enter(tenant, sequence);
  }

  /** A preempted sequence comes back to the head of the queue. */
  requeue(sequence: Sequence): void {
    this.tenantOf(sequence).preemptions += 1;
    sequence.state = 'preempted';
    this.#preempted.add(sequence);
  }

  /** The preempted sequence that goes before all others. */
  firstPreempted(): Sequence | undefined {
    return this.#preempted.first;
  }

  /** The least served tenant's first sequence that is ready. */
  first(): Sequence | undefined {
    return this.#ready.first?.ready.first;
  }

  /** The sequence waits for another's prompt: it keeps its place in the bounds, and is passed over until `unfollow`. */
  follow(sequence: Sequence): void {
    const tenant = this.tenantOf(sequence);
    this.#takeReady(tenant, sequence);
    tenant.following.add(sequence);
    sequence.state = 'following';
  }

  unfollow(sequence: Sequence): void {
    const tenant = this.tenantOf(sequence);
    invariant(tenant.following.delete(sequence), 'who stops following has followed');
    this.#enter(tenant, sequence);
  }

  /** Takes a sequence out of the queue, to run or because it ended; false when it is not in it. */
  remove(sequence: Sequence): boolean {
    const { state } = sequence;
    if (state !== 'preempted' && state !== 'waiting' && state !== 'following') return false;
    sequence.state = 'running';
    if (state === 'preempted') return this.#preempted.delete(sequence);
    const tenant = this.tenantOf(sequence);
    if (state === 'waiting') this.#takeReady(tenant, sequence);
    else tenant.following.delete(sequence);
    tenant.waitingTokens -= queueTokens(sequence);
    this.#waiting -= 1;
    this.#waitingTokens -= queueTokens(sequence);
    if (tenant.waiting === 0) this.#lastToLeave = tenant;
    return true;
  }

  /** The sequence has ended and is in no queue any more. */
  leave(sequence: Sequence): void {
    const name = sequence.request.tenant;
    const tenant = this.tenantOf(sequence);
    sequence.state = 'ended';
    tenant.alive -= 1;
    if (tenant.alive > 0) return;
    this.#activeWeight -= tenant.weight;
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

  /** The sequence is admitted: what is unpaid of what it was given will be computed. */
  owe(sequence: Sequence): void {
    this.#promise(sequence, sequence.unpaid);
  }

  /** The sequence runs no more, or not for now. */
  disown(sequence: Sequence): void {
    this.#promise(sequence, -sequence.unpaid);
  }

  /** Prompt tokens that a cache answered, of a sequence that is not charged for them yet. */
  chargeCached(sequence: Sequence, tokens: number): void {
    const tenant = this.tenantOf(sequence);
    tenant.served += (tokens * this.#costs.cached) / tenant.weight;
    this.#moved(tenant);
  }

  /** Tokens of a running sequence that were computed and released. A given token is charged once, however often it is computed. */
  charge(sequence: Sequence, computed: number, released: number): void {
    const tenant = this.tenantOf(sequence);
    const paid = Math.min(sequence.unpaid, computed);
    sequence.unpaid -= paid;
    tenant.owed -= paid * this.#costs.prompt;
    tenant.served += (paid * this.#costs.prompt + released * this.#costs.output) / tenant.weight;
    tenant.computedTokens += computed;
    tenant.outputTokens += released;
    this.#moved(tenant);
  }

  /** Order in which running sequences share what a step has left: least served tenant, then as within a tenant. */
  compare(a: Sequence, b: Sequence, stepTokens: number): number {
    if (a.request.tenant === b.request.tenant) return withinTenant(a, b);
    const most = PROMISED_STEPS * stepTokens;
    const service = this.tenantOf(a).projectedWithin(most) - this.tenantOf(b).projectedWithin(most);
    return service || a.arrival - b.arrival;
  }

  /** All queued sequences. */
  *[Symbol.iterator](): Generator<Sequence> {
    yield* this.#preempted;
    for (const tenant of this.#tenants.values()) {
      yield* tenant.ready;
      yield* tenant.following;
    }
  }

  #enter(tenant: Tenant, sequence: Sequence): void {
    sequence.state = 'waiting';
    tenant.ready.add(sequence);
    if (tenant.ready.size === 1) this.#ready.add(tenant);
    else this.#ready.moved(tenant);
  }

  #takeReady(tenant: Tenant, sequence: Sequence): void {
    if (tenant.ready.size === 1) this.#ready.delete(tenant);
    invariant(tenant.ready.delete(sequence), 'a waiting sequence is in its tenant’s queue');
    if (tenant.ready.size > 0) this.#ready.moved(tenant);
  }

  #promise(sequence: Sequence, tokens: number): void {
    const tenant = this.tenantOf(sequence);
    tenant.owed += tokens * this.#costs.prompt;
    this.#moved(tenant);
  }

  #moved(tenant: Tenant): void {
    if (tenant.ready.size > 0) this.#ready.moved(tenant);
  }

  /** The least service among those that wait: the heap's order includes what is promised, so it is looked for. */
  #level(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const tenant of this.#ready) least = Math.min(least, tenant.served);
    return Number.isFinite(least) ? least : (this.#lastToLeave?.served ?? 0);
  }
}
