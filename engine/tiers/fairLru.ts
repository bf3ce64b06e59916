// Which entry of a bounded store leaves next, among several owners: who holds the most for his weight gives up what he used longest ago, so that one
// who floods the store takes from himself and nobody is pushed below a share in proportion to his weight. What nobody has used for long leaves first, whoever's it
// is: shares are for those who are there. With one owner it is plain LRU. Pure; time comes in.
import { IndexedHeap } from '../indexedHeap.ts';
import { invariant } from '../invariant.ts';

/** Two entries that were used within such a time of each other may leave in either order: clocks of processes and files differ. */
const ORDER_SLACK_MS = 60_000;

/** Weights kept of those who were told last, whether they hold something or not: several times the tenants of a busy host. */
const MAX_TOLD = 16_384;

export interface FairEntry {
  readonly owner: string;
  readonly bytes: number;
  usedMs: number;
}

interface Owner<K, E> {
  serial: number;
  bytes: number;
  /** What of the store is due to it beside others; > 0. */
  weight: number;
  /** bytes / weight. */
  load: number;
  /** In order of use, oldest first. */
  entries: Map<K, E>;
  /** Those that were learnt of after newer ones, by time: what the first listing of a folder finds, and what other processes used. */
  late: IndexedHeap<Late<K, E>>;
  oldestMs: number;
  newestMs: number;
}

interface Late<K, E> {
  key: K;
  entry: E;
}

export class FairLru<K, E extends FairEntry = FairEntry> {
  readonly #staleMs: number;
  readonly #owners = new Map<string, Owner<K, E>>();
  readonly #entries = new Map<K, E>();
  readonly #most = new IndexedHeap<Owner<K, E>>(
    (a, b) => a.load > b.load || (a.load === b.load && a.serial < b.serial),
  );
  readonly #oldest = new IndexedHeap<Owner<K, E>>(
    (a, b) => a.oldestMs < b.oldestMs || (a.oldestMs === b.oldestMs && a.serial < b.serial),
  );
  readonly #late = new Map<K, Late<K, E>>();
  readonly #told = new Map<string, number>();
  #serial = 0;
  #bytes = 0;
  #newestMs = Number.NEGATIVE_INFINITY;

  /** Unused for `staleMs`: no longer part of anybody's share. */
  constructor(staleMs: number) {
    this.#staleMs = staleMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): E | undefined {
    return this.#entries.get(key);
  }

  /** The owner's weight from now on, > 0; who was never told of has 1. */
  weigh(name: string, weight: number): void {
    invariant(weight > 0, 'a weight is above zero', { weight });
    this.#told.delete(name);
    this.#told.set(name, weight);
    if (this.#told.size > MAX_TOLD) this.#told.delete(this.#told.keys().next().value!);
    const owner = this.#owners.get(name);
    if (!owner || owner.weight === weight) return;
    owner.weight = weight;
    this.#changed(owner);
  }

  /** Adds or replaces. The entry is this store's from now on. */
  put(key: K, entry: E): void {
    this.delete(key);
    const owner = this.#ownerOf(entry.owner);
    this.#entries.set(key, entry);
    owner.bytes += entry.bytes;
    this.#bytes += entry.bytes;
    this.#place(owner, key, entry);
    this.#changed(owner);
  }

  /** Nothing but its time changes: the heaps of owners move only where it was its owner's oldest, or is now. */
  use(key: K, usedMs: number): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    const owner = this.#ownerOf(entry.owner);
    const wasOldest = oldestOf(owner) === key;
    this.#unplace(owner, key);
    entry.usedMs = usedMs;
    this.#place(owner, key, entry);
    if (wasOldest || usedMs < owner.oldestMs) this.#changed(owner);
  }

  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (!entry) return false;
    const owner = this.#owners.get(entry.owner);
    invariant(owner, 'an entry is its owner’s', { owner: entry.owner });
    this.#unplace(owner, key);
    this.#entries.delete(key);
    owner.bytes -= entry.bytes;
    this.#bytes -= entry.bytes;
    if (owner.entries.size + owner.late.size > 0) this.#changed(owner);
    else this.#forget(entry.owner, owner);
    return true;
  }

  /** The entry to leave next; it stays until deleted. null when there is none. */
  victim(nowMs: number): K | null {
    this.#withoutFuture(nowMs);
    const stalest = this.#oldest.first;
    const from = stalest && nowMs - stalest.oldestMs > this.#staleMs ? stalest : this.#most.first;
    return from ? oldestOf(from) : null;
  }

  /** A clock that was set back must not make what was used before it outlive what is used from now on: a time to come counts as now. */
  #withoutFuture(nowMs: number): void {
    if (this.#newestMs <= nowMs + ORDER_SLACK_MS) return;
    this.#newestMs = nowMs;
    for (const owner of this.#owners.values()) {
      if (owner.newestMs <= nowMs) continue;
      for (const entry of owner.entries.values()) entry.usedMs = Math.min(entry.usedMs, nowMs);
      for (const { entry } of owner.late) entry.usedMs = Math.min(entry.usedMs, nowMs);
      owner.newestMs = nowMs;
      this.#changed(owner);
    }
  }

  #ownerOf(name: string): Owner<K, E> {
    let owner = this.#owners.get(name);
    if (!owner) {
      const never = { oldestMs: Number.POSITIVE_INFINITY, newestMs: Number.NEGATIVE_INFINITY };
      const weight = this.#told.get(name) ?? 1;
      const late = new IndexedHeap<Late<K, E>>((a, b) => a.entry.usedMs < b.entry.usedMs);
      owner = { serial: this.#serial++, bytes: 0, weight, load: 0, entries: new Map(), late, ...never };
      this.#owners.set(name, owner);
      this.#most.add(owner);
      this.#oldest.add(owner);
    }
    return owner;
  }

  /** Where its time says, among its owner's. O(log late) at most: a sort for each that came late would hold up whatever waits for room. */
  #place(owner: Owner<K, E>, key: K, entry: E): void {
    this.#newestMs = Math.max(this.#newestMs, entry.usedMs);
    if (entry.usedMs < owner.newestMs - ORDER_SLACK_MS) {
      const late = { key, entry };
      this.#late.set(key, late);
      owner.late.add(late);
    } else {
      owner.entries.set(key, entry);
      owner.newestMs = Math.max(owner.newestMs, entry.usedMs);
    }
  }

  #unplace(owner: Owner<K, E>, key: K): void {
    if (owner.entries.delete(key)) return;
    owner.late.delete(this.#late.get(key)!);
    this.#late.delete(key);
  }

  #forget(name: string, owner: Owner<K, E>): void {
    this.#owners.delete(name);
    this.#most.delete(owner);
    this.#oldest.delete(owner);
  }

  #changed(owner: Owner<K, E>): void {
    const oldest = oldestOf(owner);
    owner.oldestMs = oldest === null ? Number.POSITIVE_INFINITY : this.#entries.get(oldest)!.usedMs;
    owner.load = owner.bytes / owner.weight;
    this.#most.moved(owner);
    this.#oldest.moved(owner);
  }
}

/** What the owner used longest ago; null: it holds nothing. */
function oldestOf<K, E extends FairEntry>({ entries, late }: Owner<K, E>): K | null {
  const [first] = entries;
  const next = late.first;
  if (!next || (first && first[1].usedMs <= next.entry.usedMs)) return first ? first[0] : null;
  return next.key;
}
