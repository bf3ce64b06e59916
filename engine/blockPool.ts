// The life of single blocks: free, used or cached, by whom, and how a cached one leaves. It keeps counts, index, policy, statistics and
// listener in step with one another; what a sequence's blocks are is the block manager's affair.
//
//              take                 enter (indexed)                letGo, last user
//     free ──────────▶ used, private ─────────▶ used, indexed ◀──────────────────▶ cached ──▶ free
//       ▲                  │ letGo                                 reference          drop: a leaf, evicted or discarded
//       └──────────────────┘
import { type AccountUse, CacheStatistics } from './cacheStatistics.ts';
import type { CacheAccount, EvictionPolicy } from './eviction/policy.ts';
import { invariant } from './invariant.ts';
import { extendDigest, rootDigest } from './prefixDigest.ts';
import { PrefixIndex } from './prefixIndex.ts';
import type { Namespace } from './prefixRun.ts';
import type { BlockListener, Removal } from './tiers/port.ts';

/** Tokens [start, start + count) of a sequence after its block `parent` (-1: none): what an indexed block stands for. */
export interface BlockContents {
  parent: number;
  namespace: Namespace;
  tokens: Int32Array;
  start: number;
  count: number;
}

/** What the policy is told of a block besides its contents. */
export interface BlockUse {
  depth: number;
  freshBlocks: number;
  partial: boolean;
  priority: number;
}

export class BlockPool {
  readonly capacityBlocks: number;
  readonly index: PrefixIndex;
  readonly statistics: CacheStatistics;
  /** Of statistics; set by whoever begins an operation. */
  nowMs = 0;
  readonly #eviction: EvictionPolicy;
  readonly #listener: BlockListener | null;
  /** Stack of free blocks; the lowest ids are taken first. */
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #references: Int32Array;
  /** Whose a used or cached block is. */
  readonly #owner: (AccountUse | null)[];
  /** Of indexed blocks: of their whole prefix. */
  readonly #digest: Float64Array;
  #cachedCount = 0;
  #evictions = 0;
  /** What the policy was told of whom. */
  readonly #told = new WeakMap<AccountUse, CacheAccount>();

  constructor(capacityBlocks: number, eviction: EvictionPolicy, listener: BlockListener | null) {
    invariant(Number.isInteger(capacityBlocks) && capacityBlocks > 0, 'the arena has blocks', { capacityBlocks });
    this.capacityBlocks = capacityBlocks;
    this.index = new PrefixIndex(capacityBlocks);
    this.statistics = new CacheStatistics(capacityBlocks);
    this.#eviction = eviction;
    this.#listener = listener;
    this.#free = Int32Array.from({ length: capacityBlocks }, (_, i) => capacityBlocks - 1 - i);
    this.#freeCount = capacityBlocks;
    this.#references = new Int32Array(capacityBlocks);
    this.#owner = new Array<AccountUse | null>(capacityBlocks).fill(null);
    this.#digest = new Float64Array(capacityBlocks);
  }

  get freeBlocks(): number {
    return this.#freeCount;
  }

  get cachedBlocks(): number {
    return this.#cachedCount;
  }

  /** Leaves that may be evicted now. */
  get evictableBlocks(): number {
    return this.#eviction.size;
  }

  get evictions(): number {
    return this.#evictions;
  }

  /** Ids of the free blocks, a view. */
  get free(): Int32Array {
    return this.#free.subarray(0, this.#freeCount);
  }

  /** Tables that use the block. */
  references(block: number): number {
    return this.#references[block]!;
  }

  owner(block: number): AccountUse | null {
    return this.#owner[block]!;
  }

  digest(block: number): number {
    return this.#digest[block]!;
  }

  /** The account with one table more, its weight and floor known to the policy. */
  openAccount(account: CacheAccount): AccountUse {
    const use = this.statistics.open(account.name);
    this.#tell(use, account);
    return use;
  }

  /** A block for `account`, private and referenced once. Evicts where none is free; the caller has seen that one can be had. */
  take(account: AccountUse): number {
    if (this.#freeCount === 0) {
      const victim = this.#eviction.victim(account.name);
      invariant(victim >= 0, 'available blocks can be had', { cached: this.#cachedCount });
      account.evicts(this.#owner[victim]!);
      this.#evictions += 1;
      this.#dropLeaf(victim, 'evicted');
    }
    this.#freeCount -= 1;
    const block = this.#free[this.#freeCount]!;
    this.#references[block] = 1;
    this.#owner[block] = account;
    account.inUse += 1;
    return block;
  }

  /** Every cached block leaves, in the policy's order. It made room for nobody, so it counts as nobody's eviction. */
  evictAll(): void {
    for (let victim = this.#eviction.victim(''); victim >= 0; victim = this.#eviction.victim(''))
      this.#dropLeaf(victim, 'flushed');
    invariant(this.#cachedCount === 0, 'every cached block can be reached leaf-first', { cached: this.#cachedCount });
  }

  /** An indexed block gets another user, who found it in the cache and computes `freshBlocks` himself. */
  reference(block: number, freshBlocks: number): void {
    const users = this.#references[block]!;
    this.#references[block] = users + 1;
    if (users === 0) {
      this.#cachedCount -= 1;
      const owner = this.#owner[block]!;
      owner.cached -= 1;
      owner.inUse += 1;
      if (this.index.isLeaf(block)) this.#eviction.delete(block);
    }
    this.#eviction.reuse(block, freshBlocks);
    this.statistics.reused(block, this.nowMs);
  }

  /** A user goes. Without another one, an indexed block is cached, a private one free. */
  letGo(block: number): void {
    const users = this.#references[block]!;
    invariant(users > 0, 'only a referenced block is let go', { block });
    this.#references[block] = users - 1;
    if (users > 1) return;
    if (!this.index.has(block)) {
      this.#owner[block]!.inUse -= 1;
      this.#toFree(block);
      return;
    }
    const owner = this.#owner[block]!;
    owner.inUse -= 1;
    owner.cached += 1;
    this.#cachedCount += 1;
    this.#eviction.touch(block);
    if (this.index.isLeaf(block)) this.#eviction.insert(block);
  }

  /** A block in use enters the books of policy, statistics and, when it is full, the listener. It is indexed already. */
  enter(block: number, contents: BlockContents, use: BlockUse, account: CacheAccount | null): void {
    const { parent, namespace, tokens, start, count } = contents;
    if (account) this.#reassign(block, account);
    // A policy may forget who holds no block; whoever computes a long prompt holds none for long.
    const told = this.#told.get(this.#owner[block]!);
    if (told) this.#eviction.account(told);
    const before = parent < 0 ? rootDigest(namespace.name, namespace.extra) : this.#digest[parent]!;
    const digest = extendDigest(before, tokens, start, count);
    this.#digest[block] = digest;
    this.#eviction.admit(block, { account: this.#owner[block]!.name, digest, parent, ...use });
    this.statistics.entered(block, this.nowMs);
    if (!use.partial)
      this.#listener?.stored(block, parent, namespace.name, namespace.extra, tokens.subarray(start, start + count));
  }

  /** A leaf in use leaves the index and is private again. */
  withdraw(block: number): void {
    const partial = this.index.isPartial(block);
    if (!partial) this.#listener?.removed(block, 'discarded');
    this.index.remove(block);
    this.#eviction.remove(block);
    this.statistics.left(block, this.nowMs);
  }

  /** Drops the block and what hangs off it, as far as nobody uses it. */
  dropUnused(block: number): void {
    this.dropBelow(block);
    if (this.#references[block] === 0 && this.index.isLeaf(block)) this.#dropLeaf(block, 'discarded');
  }

  /** Drops what hangs off the block, as far as nobody uses it. */
  dropBelow(block: number): void {
    for (const below of this.index.descendants(block).reverse())
      if (this.#references[below] === 0 && this.index.isLeaf(below)) this.#dropLeaf(below, 'discarded');
  }

  /** A cached leaf leaves the index; its parent may be a leaf then. */
  #dropLeaf(block: number, why: Removal): void {
    if (!this.index.isPartial(block)) this.#listener?.removed(block, why);
    const parent = this.index.parent(block);
    this.#eviction.delete(block);
    this.index.remove(block);
    this.#eviction.remove(block);
    this.statistics.left(block, this.nowMs);
    this.#cachedCount -= 1;
    this.#owner[block]!.cached -= 1;
    this.#toFree(block);
    if (parent >= 0 && this.#references[parent] === 0 && this.index.isLeaf(parent)) this.#eviction.insert(parent);
  }

  #toFree(block: number): void {
    const owner = this.#owner[block]!;
    this.#owner[block] = null;
    this.#free[this.#freeCount++] = block;
    this.statistics.rest(owner);
  }

  /** A block in use goes over to another account. */
  #reassign(block: number, account: CacheAccount): void {
    const before = this.#owner[block]!;
    const after = this.openAccount(account);
    before.inUse -= 1;
    after.inUse += 1;
    this.#owner[block] = after;
    this.statistics.close(after);
  }

  #tell(use: AccountUse, account: CacheAccount): void {
    const told = this.#told.get(use);
    if (told?.weight === account.weight && told.floorShare === account.floorShare) return;
    this.#eviction.account(account);
    this.#told.set(use, account);
  }
}
