// One sequence's blocks, in order of positions, and what the block manager remembers of the sequence. Written by the manager alone.
//
//   blocks   [ s0 ][ s1 ][ s2 ][ p3 ][ p4 ]      s: published, a path in the prefix index, maybe shared
//              └─ published ─┘  └ private ┘      p: not full, not computed yet, or of a sequence without a namespace
import type { AccountUse } from './cacheStatistics.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import type { Namespace } from './prefixRun.ts';

/** Blocks that hold `positions` positions. */
export function blocksFor(positions: number): number {
  return Math.ceil(positions / BLOCK_TOKENS);
}

/** A block that a table's head was copied from, told from whatever the block holds later by its digest. */
export interface CopySource {
  block: number;
  digest: number;
}

export class BlockTable {
  readonly blocks: Int32Array;
  length = 0;
  /** Positions that its blocks are there for. */
  positions = 0;
  /** Leading blocks that are in the prefix index. */
  published = 0;
  /** Leading positions whose KV came from the cache, in whole blocks and a copied part of one; where computing starts. */
  cachedPositions = 0;
  /** Leading blocks that were found in the cache. */
  reused = 0;
  /** Leading positions known to have KV. */
  computed = 0;
  /** null: it neither reads nor writes the cache. */
  readonly namespace: Namespace | null;
  /** The operator's, and how many leading blocks are of it. */
  readonly publicNamespace: Namespace | null;
  readonly publicBlocks: number;
  readonly account: AccountUse;
  readonly retention: number;
  /** The sequence's own array, which grows: read up to `computed`. */
  tokens: Int32Array;
  /** Positions known at admission: with the last of them, its prompt is computed. */
  readonly knownPositions: number;
  /** Tokens with which its first block after the published ones is indexed, for others to copy; 0: it is not. */
  partialTokens = 0;
  copySource: CopySource | null = null;

  constructor(
    of: Pick<
      BlockTable,
      'namespace' | 'publicNamespace' | 'publicBlocks' | 'account' | 'retention' | 'tokens' | 'knownPositions'
    >,
    capacityBlocks: number,
  ) {
    this.namespace = of.namespace;
    this.publicNamespace = of.publicNamespace;
    this.publicBlocks = of.publicBlocks;
    this.account = of.account;
    this.retention = of.retention;
    this.tokens = of.tokens;
    this.knownPositions = of.knownPositions;
    this.blocks = new Int32Array(capacityBlocks);
  }

  /** The table as the runner takes it, [length]. A view: valid until the table changes. */
  view(): Int32Array {
    return this.blocks.subarray(0, this.length);
  }

  /** Of the block at `place`. */
  namespaceAt(place: number): Namespace {
    return place < this.publicBlocks ? this.publicNamespace! : this.namespace!;
  }

  /** The block before `place`; -1: none. */
  blockBefore(place: number): number {
    return place > 0 ? this.blocks[place - 1]! : -1;
  }
}
