// Owner of the KV arena's blocks. A block is free, used (referenced by block tables) or cached (referenced by nobody, kept by the
// prefix index, free on demand): free + used + cached = capacity, always. Full blocks are shared by reference count, a partly filled
// one by copying it. The manager knows counts, tokens and accounts: no GPU, no scheduler (several may use one manager), no clock.
//
//   admit     found path: referenced        + copy of the block that agrees longest with what follows    + private blocks
//   publish   private, full ─▶ indexed      an equal block is there: go on with that one, free the own
//   release   indexed ─▶ cached             the last, partly filled block too, as a leaf to copy from
//
// A sequence references all ancestors of what it references, hence along a path reference counts never rise, every cached block
// can be reached leaf-first, and `availableBlocks` is exact. References are counted per block: each block of an admitted path is told to
// the policy anyway, which costs more than its count.
import { auditBlocks } from './blockAudit.ts';
import { BlockPool } from './blockPool.ts';
import { BlockPublisher, MIN_COPY_TOKENS } from './blockPublisher.ts';
import { BlockTable, blocksFor } from './blockTable.ts';
import type { CacheStatisticsStatus } from './cacheStatistics.ts';
import { LruEviction } from './eviction/lru.ts';
import { type CacheAccount, type EvictionPolicy, NEUTRAL_PRIORITY } from './eviction/policy.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { matchPrefix, type PrefixMatch } from './prefixMatch.ts';
import { PublicPrefixes } from './publicPrefixes.ts';
import type { BlockListener } from './tiers/port.ts';

export { BlockTable, blocksFor } from './blockTable.ts';

/** The namespace of public prefixes. Tenants' are derived by the server and look different. */
export const PUBLIC_NAMESPACE = 'public';

export interface BlockManagerOptions {
  /** Copies the first `tokens` positions of a block, in order with steps and other copies. Without it no partial block is kept. */
  copyBlock?: (from: number, to: number, tokens: number) => void;
  listener?: BlockListener;
  publicPrefixes?: PublicPrefixes;
  /** Whose share public blocks count against. */
  publicAccount?: CacheAccount;
  /** Milliseconds, for statistics alone. */
  clock?: () => number;
}

export interface Admission {
  /** Namespace; null: the cache is neither read nor written. */
  scope: string | null;
  /** What else than tokens its KV depends on. */
  extra?: string;
  /** By default one that is named as its namespace, without a floor. */
  account?: CacheAccount;
  retention?: number;
  /** Known up to `positions`; read again when its blocks are published, until the table is released. */
  tokens: Int32Array;
  positions: number;
  /** Most positions that may come from the cache. */
  maxCached: number;
  /** What the sequence may grow to. */
  capacityPositions: number;
  /** Blocks that must stay available afterwards. */
  headroomBlocks: number;
}

export interface BlockStatus extends CacheStatisticsStatus {
  capacityBlocks: number;
  freeBlocks: number;
  cachedBlocks: number;
  evictions: number;
  namespaces: number;
  /** Positions of used blocks that nothing is there for: the ends of tables. */
  wastedPositions: number;
}

interface Found extends PrefixMatch {
  publicBlocks: number;
}

export class BlockManager {
  readonly capacityBlocks: number;
  readonly publicPrefixes: PublicPrefixes;
  readonly #options: BlockManagerOptions;
  readonly #pool: BlockPool;
  readonly #publisher: BlockPublisher;
  #wastedPositions = 0;

  constructor(
    capacityBlocks: number,
    eviction: EvictionPolicy = new LruEviction(capacityBlocks),
    options: BlockManagerOptions = {},
  ) {
    this.capacityBlocks = capacityBlocks;
    this.publicPrefixes = options.publicPrefixes ?? new PublicPrefixes();
    this.#options = options;
    this.#pool = new BlockPool(capacityBlocks, eviction, options.listener ?? null);
    const publicAccount = options.publicAccount ?? { name: PUBLIC_NAMESPACE, weight: 1, floorShare: 0 };
    this.#publisher = new BlockPublisher(this.#pool, publicAccount, options.copyBlock !== undefined);
  }

  get freeBlocks(): number {
    return this.#pool.freeBlocks;
  }

  get cachedBlocks(): number {
    return this.#pool.cachedBlocks;
  }

  /** Blocks that can be had now: free, or cached and thus evictable. */
  get availableBlocks(): number {
    return this.#pool.freeBlocks + this.#pool.cachedBlocks;
  }

  get evictions(): number {
    return this.#pool.evictions;
  }

  /** `most` accounts are told apart. */
  status(most: number): BlockStatus {
    const { freeBlocks, cachedBlocks, evictions, index, statistics } = this.#pool;
    return {
      capacityBlocks: this.capacityBlocks,
      freeBlocks,
      cachedBlocks,
      evictions,
      namespaces: index.namespaces,
      wastedPositions: this.#wastedPositions,
      ...statistics.status(most),
    };
  }

  /**
   * Positions of `tokens` that the cache would answer with whole blocks, at most `maxTokens`. `known`: tokens that are known, which
   * say what of it is public.
   */
  cachedPrefix(scope: string | null, tokens: Int32Array, maxTokens: number, extra = '', known = maxTokens): number {
    return scope === null ? 0 : this.#find(scope, extra, tokens, maxTokens, known).blocks * BLOCK_TOKENS;
  }

  /** A table that covers `positions`, its head taken from the cache; null, with nothing changed, when too few blocks would be left. */
  admit(request: Admission): BlockTable | null {
    const { scope, tokens, positions, extra = '' } = request;
    const maxCached = Math.min(request.maxCached, positions);
    const found = scope === null ? null : this.#find(scope, extra, tokens, maxCached, positions);
    const fresh = blocksFor(positions) - (found?.blocks ?? 0);
    const left = this.availableBlocks - fresh - (found ? this.#unused(found) : 0) - request.headroomBlocks;
    if (left < 0) return null;
    this.#tick();
    const table = this.#open(request, found?.publicBlocks ?? 0);
    if (found) {
      this.#attach(table, found, fresh);
      if (this.#options.copyBlock && found.copyTokens >= MIN_COPY_TOKENS) this.#copy(table, found, fresh);
    }
    invariant(this.grow(table, positions), 'an admitted table gets its blocks', { fresh });
    table.computed = table.cachedPositions;
    table.account.askedTokens += positions;
    table.account.hitTokens += table.cachedPositions;
    return table;
  }

  /** Makes the table cover `positions`, evicting cached blocks as needed; false, with nothing changed, when it cannot. */
  grow(table: BlockTable, positions: number): boolean {
    const wanted = blocksFor(positions);
    invariant(wanted <= table.blocks.length, 'a table stays within its capacity', { wanted });
    if (wanted - table.length > this.availableBlocks) return false;
    while (table.length < wanted) this.#extend(table);
    const more = Math.max(0, positions - table.positions);
    table.positions += more;
    this.#wastedPositions -= more;
    return true;
  }

  /**
   * Positions below `computed` have KV: the table's full blocks of them go into the prefix index. Where another sequence computed the
   * same block first, the table goes on with that one and its own copy is freed: equal prefixes have equal bits. With the end of
   * the prompt its partly filled block is indexed too, so that other choices of the request can copy it.
   */
  publish(table: BlockTable, tokens: Int32Array, computed: number): void {
    const promptEnds = table.computed < table.knownPositions && computed >= table.knownPositions;
    table.tokens = tokens;
    table.computed = computed;
    if (!table.namespace) return;
    if ((table.published + 1) * BLOCK_TOKENS <= computed) this.#tick();
    while ((table.published + 1) * BLOCK_TOKENS <= computed) this.#publisher.publishNext(table);
    if (promptEnds) this.#publisher.indexPartial(table);
  }

  /** Gives all blocks back; published ones stay cached, the head as used last. */
  release(table: BlockTable): void {
    this.#tick();
    this.#publisher.keepPartial(table);
    this.#close(table);
  }

  /** As release, but what nobody else uses of it, and what hangs off that, leaves the index: its KV is not to be trusted. */
  discard(table: BlockTable): void {
    this.#tick();
    this.#publisher.forgetPartial(table);
    for (; table.published > 0; table.published--) {
      const block = table.blocks[table.published - 1]!;
      if (this.#pool.references(block) > 1) break;
      this.#pool.dropBelow(block);
      if (!this.#pool.index.isLeaf(block)) break;
      this.#pool.withdraw(block);
    }
    // What it was copied from would be found by the next request that is alike.
    const { copySource } = table;
    if (
      copySource &&
      this.#pool.index.has(copySource.block) &&
      this.#pool.digest(copySource.block) === copySource.digest
    )
      this.#pool.dropUnused(copySource.block);
    this.#close(table);
  }

  /** No cached block is found any more: the arena is about to be given back, or is gone already. No table may be open. */
  evictAll(): void {
    this.#tick();
    this.#pool.evictAll();
    invariant(this.freeBlocks === this.capacityBlocks, 'nobody uses a block', { free: this.freeBlocks });
  }

  /** Leading positions of the table that other sequences hold as well: they stay when this one goes. */
  sharedPositions(table: BlockTable): number {
    let low = 0;
    let high = table.published;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#pool.references(table.blocks[middle]!) > 1) low = middle + 1;
      else high = middle;
    }
    return low * BLOCK_TOKENS;
  }

  /** Throws InvariantViolation where counts, tables and index contradict one another. For tests and debugging: O(capacity). */
  checkInvariants(tables: Iterable<BlockTable>): void {
    auditBlocks(this.#pool, [...tables], this.#wastedPositions);
  }

  #tick(): void {
    this.#pool.nowMs = this.#options.clock?.() ?? 0;
  }

  #find(scope: string, extra: string, tokens: Int32Array, maxTokens: number, known: number): Found {
    const { index } = this.#pool;
    const publicBlocks = this.publicPrefixes.leadingBlocks(tokens, known);
    const key = {
      own: index.find(scope, extra),
      public: publicBlocks > 0 ? index.find(PUBLIC_NAMESPACE, extra) : undefined,
      publicBlocks,
    };
    return { ...matchPrefix(key, tokens, maxTokens), publicBlocks };
  }

  #open(request: Admission, publicBlocks: number): BlockTable {
    const { scope, extra = '' } = request;
    const { index } = this.#pool;
    invariant(scope !== PUBLIC_NAMESPACE, 'no tenant has the public namespace');
    const account = request.account ?? { name: scope ?? '', weight: 1, floorShare: 0 };
    return new BlockTable(
      {
        namespace: scope === null ? null : index.open(scope, extra),
        publicNamespace: publicBlocks > 0 ? index.open(PUBLIC_NAMESPACE, extra) : null,
        publicBlocks,
        account: this.#pool.openAccount(account),
        retention: request.retention ?? NEUTRAL_PRIORITY,
        tokens: request.tokens,
        knownPositions: request.positions,
      },
      blocksFor(request.capacityPositions),
    );
  }

  /** Found blocks that nobody uses: they stop being available. By the order of counts they are the last of the path. */
  #unused(found: Found): number {
    let unused = 0;
    let inRun = found.inRun;
    for (let run = found.run; run; run = run.parent) {
      while (inRun > 0 && this.#pool.references(run.blocks[inRun - 1]!) === 0) {
        inRun -= 1;
        unused += 1;
      }
      if (inRun > 0) break;
      inRun = run.parent?.length ?? 0;
    }
    return unused;
  }

  /** The table begins with the found blocks. */
  #attach(table: BlockTable, found: Found, fresh: number): void {
    let inRun = found.inRun;
    for (let run = found.run; run; run = run.parent) {
      table.blocks.set(run.blocks.subarray(0, inRun), run.depth);
      inRun = run.parent?.length ?? 0;
    }
    for (let i = 0; i < found.blocks; i++) this.#pool.reference(table.blocks[i]!, fresh);
    table.length = found.blocks;
    table.published = found.blocks;
    table.reused = found.blocks;
    table.positions = found.blocks * BLOCK_TOKENS;
    table.cachedPositions = table.positions;
  }

  /** The next block begins as a copy of the one that agrees longest. The source is held meanwhile: taking a block evicts another. */
  #copy(table: BlockTable, { copySource, copyTokens }: Found, fresh: number): void {
    const held = this.#pool.references(copySource) > 0;
    // Where the source is the last block that can be had, it is needed itself.
    if (!held && this.availableBlocks < 2) return;
    if (held) this.#extend(table);
    else {
      this.#pool.reference(copySource, fresh);
      this.#extend(table);
      this.#pool.letGo(copySource);
    }
    this.#options.copyBlock!(copySource, table.blocks[table.length - 1]!, copyTokens);
    table.copySource = { block: copySource, digest: this.#pool.digest(copySource) };
    table.cachedPositions += copyTokens;
    table.account.copiedTokens += copyTokens;
  }

  #extend(table: BlockTable): void {
    const block = this.#pool.take(table.account);
    table.blocks[table.length++] = block;
    this.#wastedPositions += BLOCK_TOKENS;
  }

  #close(table: BlockTable): void {
    this.#wastedPositions -= table.length * BLOCK_TOKENS - table.positions;
    for (let i = table.length - 1; i >= 0; i--) this.#pool.letGo(table.blocks[i]!);
    this.#pool.statistics.close(table.account);
    if (table.namespace) this.#pool.index.close(table.namespace);
    if (table.publicNamespace) this.#pool.index.close(table.publicNamespace);
    table.length = 0;
    table.positions = 0;
    table.published = 0;
    table.partialTokens = 0;
    table.computed = 0;
  }
}
