// Owner of the KV arena's blocks. A block is free, used (referenced by block tables) or cached (referenced by nobody, kept by the
// prefix index, free on demand): free + used + cached = capacity, always. Blocks are shared by reference count and only when full.
//
//   table.blocks   [ s0 ][ s1 ][ s2 ][ p3 ][ p4 ]      s: published, a path in the prefix index, maybe shared
//                    └─ published ─┘  └ private ┘      p: not full, not computed yet, or of a scope-less sequence
//
// A sequence references all ancestors of what it references, hence every cached block can be reached leaf-first, and
// `availableBlocks` is exact.
import { LruEviction } from './eviction/lru.ts';
import { type EvictionPolicy, NEUTRAL_PRIORITY } from './eviction/policy.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { PrefixIndex, type PrefixNode, packBlock } from './prefixIndex.ts';

/** Blocks that hold `positions` positions. */
export function blocksFor(positions: number): number {
  return Math.ceil(positions / BLOCK_TOKENS);
}

/** One sequence's blocks, in order of positions. Written by the block manager alone. */
export class BlockTable {
  readonly scope: string | null;
  readonly blocks: Int32Array;
  length = 0;
  /** Leading blocks that are in the prefix index, and the node of the last of them. */
  published = 0;
  /** Leading blocks that the cache had at admission. */
  reused = 0;
  tail: PrefixNode | null = null;

  constructor(scope: string | null, capacityBlocks: number) {
    this.scope = scope;
    this.blocks = new Int32Array(capacityBlocks);
  }

  /** The table as the runner takes it, [length]. A view: valid until the table changes. */
  view(): Int32Array {
    return this.blocks.subarray(0, this.length);
  }
}

export class BlockManager {
  readonly capacityBlocks: number;
  readonly #index = new PrefixIndex();
  readonly #eviction: EvictionPolicy;
  /** Stack of free blocks; the lowest ids are taken first. */
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #references: Int32Array;
  readonly #node: (PrefixNode | null)[];
  /** Of namespace and exact prefix, for indexed blocks. */
  readonly #digest: Float64Array;
  #cachedCount = 0;
  #evictions = 0;

  constructor(capacityBlocks: number, eviction: EvictionPolicy = new LruEviction(capacityBlocks)) {
    invariant(Number.isInteger(capacityBlocks) && capacityBlocks > 0, 'the arena has blocks', { capacityBlocks });
    this.capacityBlocks = capacityBlocks;
    this.#eviction = eviction;
    this.#free = Int32Array.from({ length: capacityBlocks }, (_, i) => capacityBlocks - 1 - i);
    this.#freeCount = capacityBlocks;
    this.#references = new Int32Array(capacityBlocks);
    this.#digest = new Float64Array(capacityBlocks);
    this.#node = new Array<PrefixNode | null>(capacityBlocks).fill(null);
  }

  get freeBlocks(): number {
    return this.#freeCount;
  }

  get cachedBlocks(): number {
    return this.#cachedCount;
  }

  /** Blocks that can be had now: free, or cached and thus evictable. */
  get availableBlocks(): number {
    return this.#freeCount + this.#cachedCount;
  }

  get evictions(): number {
    return this.#evictions;
  }

  /** Positions of `tokens` that the cache would answer, at most `maxTokens`, in whole blocks. */
  cachedPrefix(scope: string | null, tokens: Int32Array, maxTokens: number): number {
    return scope === null ? 0 : this.#index.match(scope, tokens, maxTokens).length * BLOCK_TOKENS;
  }

  /**
   * A table that covers `positions`, its head taken from the cache up to `maxCached` positions; null, with nothing changed, when
   * that would leave less than `headroomBlocks` available. `capacityPositions`: what the sequence may grow to.
   */
  admit(request: {
    scope: string | null;
    tokens: Int32Array;
    positions: number;
    maxCached: number;
    capacityPositions: number;
    headroomBlocks: number;
  }): BlockTable | null {
    const { scope, tokens, positions } = request;
    const path = scope === null ? [] : this.#index.match(scope, tokens, request.maxCached);
    const wanted = blocksFor(positions);
    const revived = path.filter((node) => this.#references[node.block] === 0).length;
    if (this.availableBlocks - revived - (wanted - path.length) < request.headroomBlocks) return null;
    const table = new BlockTable(scope, blocksFor(request.capacityPositions));
    for (const node of path) {
      this.#reference(node);
      this.#eviction.reuse(node.block, wanted - path.length);
      table.blocks[table.length++] = node.block;
    }
    table.reused = path.length;
    table.published = path.length;
    table.tail = path.at(-1) ?? null;
    invariant(this.grow(table, positions), 'an admitted table gets its blocks', { wanted });
    return table;
  }

  /** Makes the table cover `positions`, evicting cached blocks as needed; false, with nothing changed, when it cannot. */
  grow(table: BlockTable, positions: number): boolean {
    const wanted = blocksFor(positions);
    invariant(wanted <= table.blocks.length, 'a table stays within its capacity', { wanted });
    if (wanted - table.length > this.availableBlocks) return false;
    while (table.length < wanted) {
      const block = this.#take();
      this.#references[block] = 1;
      table.blocks[table.length++] = block;
    }
    return true;
  }

  /**
   * Puts the table's full blocks below `computed` positions into the prefix index. Where another sequence computed the same block
   * first, the table goes on with that one and its own copy is freed: equal prefixes have equal bits.
   */
  publish(table: BlockTable, tokens: Int32Array, computed: number): void {
    const { scope } = table;
    if (scope === null) return;
    for (; (table.published + 1) * BLOCK_TOKENS <= computed; table.published++) {
      const own = table.blocks[table.published]!;
      const key = packBlock(tokens, table.published * BLOCK_TOKENS);
      const twin = this.#index.child(scope, table.tail, key);
      if (twin) {
        this.#reference(twin);
        table.blocks[table.published] = twin.block;
        this.#letGo(own, scope);
        table.tail = twin;
      } else {
        table.tail = this.#index.insert(scope, table.tail, key, own);
        this.#node[own] = table.tail;
        this.#tellAdmitted(table, table.tail);
      }
    }
  }

  #tellAdmitted(table: BlockTable, node: PrefixNode): void {
    const { parent } = node;
    const above = parent && parent.block >= 0 ? parent.block : -1;
    let digest = above >= 0 ? this.#digest[above]! : 0;
    for (let i = 0; i < node.key.length; i++) digest = (digest * 31 + node.key.charCodeAt(i)) % 9007199254740881;
    this.#digest[node.block] = digest;
    this.#eviction.admit(node.block, {
      account: table.scope ?? '',
      digest,
      depth: table.published,
      parent: above,
      freshBlocks: table.length - table.reused,
      partial: false,
      priority: NEUTRAL_PRIORITY,
    });
  }

  /** Gives all blocks back; published ones stay cached, the head as used last. */
  release(table: BlockTable): void {
    for (let i = table.length - 1; i >= 0; i--) this.#letGo(table.blocks[i]!, table.scope);
    table.length = 0;
    table.published = 0;
    table.tail = null;
  }

  /** As release, but what nobody else uses of it, and what hangs off that, leaves the index: its KV is not to be trusted. */
  discard(table: BlockTable): void {
    while (table.tail && this.#references[table.tail.block] === 1) {
      const node: PrefixNode = table.tail;
      for (const child of [...node.children.values()]) this.#dropCached(child);
      if (node.children.size > 0) break;
      this.#index.remove(node);
      this.#eviction.remove(node.block);
      this.#node[node.block] = null;
      table.published -= 1;
      table.tail = table.published > 0 ? node.parent : null;
    }
    this.release(table);
  }

  /** Leading positions of the table that other sequences hold as well: they stay when this one goes. */
  sharedPositions(table: BlockTable): number {
    let shared = 0;
    while (shared < table.published && this.#references[table.blocks[shared]!]! > 1) shared += 1;
    return shared * BLOCK_TOKENS;
  }

  #reference(node: PrefixNode): void {
    const { block } = node;
    if (this.#references[block] === 0) {
      this.#cachedCount -= 1;
      if (node.children.size === 0) this.#eviction.delete(block);
    }
    this.#references[block]! += 1;
    this.#eviction.touch(block);
  }

  #letGo(block: number, scope: string | null): void {
    invariant(this.#references[block]! > 0, 'only a referenced block is let go', { block });
    this.#references[block]! -= 1;
    if (this.#references[block]! > 0) return;
    const node = this.#node[block];
    if (!node) {
      this.#free[this.#freeCount++] = block;
      return;
    }
    invariant(scope !== null, 'a block without a scope is never published', { block });
    this.#cachedCount += 1;
    this.#eviction.touch(block);
    if (node.children.size === 0) this.#eviction.insert(block);
  }

  #take(): number {
    if (this.#freeCount === 0) {
      const victim = this.#eviction.victim('');
      invariant(victim >= 0, 'available blocks can be had', { cached: this.#cachedCount });
      this.#dropLeaf(this.#node[victim]!);
      this.#evictions += 1;
    }
    this.#freeCount -= 1;
    return this.#free[this.#freeCount]!;
  }

  /** An unreferenced leaf leaves the index; its parent may be a leaf then. */
  #dropLeaf(node: PrefixNode): void {
    const { block, parent } = node;
    this.#eviction.delete(block);
    this.#index.remove(node);
    this.#eviction.remove(block);
    this.#node[block] = null;
    this.#cachedCount -= 1;
    this.#free[this.#freeCount++] = block;
    if (parent?.parent && parent.children.size === 0 && this.#references[parent.block] === 0)
      this.#eviction.insert(parent.block);
  }

  /** Drops a node and what hangs off it, where unreferenced. */
  #dropCached(root: PrefixNode): void {
    const order = [root];
    for (let i = 0; i < order.length; i++) order.push(...order[i]!.children.values());
    for (const node of order.reverse())
      if (node.children.size === 0 && this.#references[node.block] === 0) this.#dropLeaf(node);
  }

  /** Checks every count against the tables in use. For tests and debugging: O(capacity). */
  checkInvariants(tables: Iterable<BlockTable>): void {
    const references = new Int32Array(this.capacityBlocks);
    for (const table of tables) {
      for (let i = 0; i < table.length; i++) references[table.blocks[i]!]! += 1;
      let node = table.tail;
      for (let i = table.published - 1; i >= 0; i--, node = node.parent) {
        invariant(node && node.block === table.blocks[i], 'a published head is a path in the index', { i });
      }
    }
    let free = 0;
    let cached = 0;
    let leaves = 0;
    for (let block = 0; block < this.capacityBlocks; block++) {
      const node = this.#node[block];
      invariant(references[block] === this.#references[block], 'references are those of the tables', { block });
      if (references[block]! > 0) continue;
      if (!node) free += 1;
      else {
        cached += 1;
        if (node.children.size === 0) leaves += 1;
      }
    }
    invariant(free === this.#freeCount && cached === this.#cachedCount, 'free + used + cached is all', {
      free,
      cached,
    });
    const stack = new Set(this.#free.subarray(0, this.#freeCount));
    invariant(stack.size === free, 'a block is free once', { free });
    for (const block of stack)
      invariant(references[block] === 0 && !this.#node[block], 'a free block is unused', { block });
    invariant(leaves === this.#eviction.size, 'unreferenced leaves, and they alone, may leave', { leaves });
    let nodes = 0;
    for (const node of this.#index.nodes()) {
      nodes += 1;
      invariant(this.#node[node.block] === node, 'a node and its block know each other', { block: node.block });
      if (node.parent?.parent && references[node.block]! > 0)
        invariant(references[node.parent.block]! > 0, 'an ancestor of a used block is used', { block: node.block });
    }
    invariant(nodes === this.#index.size && nodes === this.#node.filter(Boolean).length, 'nodes are counted', {
      nodes,
    });
  }
}
