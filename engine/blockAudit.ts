// Recounts from scratch what the block manager keeps in step: tables, references, index, free blocks, accounts. For tests and debugging.
import type { BlockPool } from './blockPool.ts';
import type { BlockTable } from './blockTable.ts';
import type { AccountUse } from './cacheStatistics.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';

/** `tables`: all that are open. Throws InvariantViolation. O(capacity). */
export function auditBlocks(pool: BlockPool, tables: readonly BlockTable[], wastedPositions: number): void {
  pool.index.check();
  const references = new Int32Array(pool.capacityBlocks);
  for (const table of tables) for (const block of table.view()) references[block]! += 1;
  for (const table of tables) auditTable(pool, table, references);
  const counts = auditStates(pool, references);
  invariant(counts.free === pool.freeBlocks && counts.cached === pool.cachedBlocks, 'free + used + cached is all', {
    ...counts,
  });
  invariant(counts.leaves === pool.evictableBlocks, 'unreferenced leaves, and they alone, may leave', { ...counts });
  const stack = new Set(pool.free);
  invariant(stack.size === pool.freeBlocks, 'a block is free once', { free: stack.size });
  for (const block of stack)
    invariant(references[block] === 0 && !pool.index.has(block), 'a free block is unused', { block });
  auditAccounts(pool, tables, references);
  const ends = tables.reduce((sum, table) => sum + table.length * BLOCK_TOKENS - table.positions, 0);
  invariant(ends === wastedPositions, 'waste is the ends of tables', { ends, wastedPositions });
}

function auditTable(pool: BlockPool, table: BlockTable, references: Int32Array): void {
  let above = -1;
  for (let i = 0; i < table.length; i++) {
    const block = table.blocks[i]!;
    const indexed = i < table.published || (i === table.published && table.partialTokens > 0);
    invariant(pool.index.has(block) === indexed, 'a table’s head is indexed, and nothing after it', { i, block });
    if (indexed) invariant(pool.index.parent(block) === above, 'a published head is a path in the index', { i });
    if (i >= table.published) invariant(references[block] === 1, 'a private block is of one table', { block });
    above = block;
  }
}

function auditStates(pool: BlockPool, references: Int32Array): { free: number; cached: number; leaves: number } {
  const counts = { free: 0, cached: 0, leaves: 0 };
  for (let block = 0; block < pool.capacityBlocks; block++) {
    invariant(references[block] === pool.references(block), 'references are those of the tables', { block });
    const indexed = pool.index.has(block);
    const parent = indexed ? pool.index.parent(block) : -1;
    if (parent >= 0)
      invariant(references[parent]! >= references[block]!, 'an ancestor of a used block is used', { block });
    if (references[block]! > 0) continue;
    if (!indexed) counts.free += 1;
    else {
      counts.cached += 1;
      if (pool.index.isLeaf(block)) counts.leaves += 1;
    }
  }
  return counts;
}

function auditAccounts(pool: BlockPool, tables: readonly BlockTable[], references: Int32Array): void {
  const count = (into: Map<AccountUse, number>, use: AccountUse) => into.set(use, (into.get(use) ?? 0) + 1);
  const [inUse, cached, open] = [
    new Map<AccountUse, number>(),
    new Map<AccountUse, number>(),
    new Map<AccountUse, number>(),
  ];
  for (const table of tables) count(open, table.account);
  for (let block = 0; block < pool.capacityBlocks; block++) {
    const owner = pool.owner(block);
    const held = references[block]! > 0 || pool.index.has(block);
    invariant(held === (owner !== null), 'a block that is not free is somebody’s', { block });
    if (owner) count(references[block]! > 0 ? inUse : cached, owner);
  }
  let holders = 0;
  for (const use of pool.statistics.holders()) {
    holders += 1;
    invariant(
      use.inUse === (inUse.get(use) ?? 0) &&
        use.cached === (cached.get(use) ?? 0) &&
        use.tables === (open.get(use) ?? 0),
      'an account’s blocks are counted',
      { account: use.name, inUse: use.inUse, cached: use.cached },
    );
  }
  const all = new Set([...inUse.keys(), ...cached.keys(), ...open.keys()]);
  invariant(holders === all.size, 'no account is forgotten while it holds something', { holders });
}
