// Brings what a sequence has computed into the prefix index, block by block: full blocks to be shared, the partly filled last one to be
// copied from. Whose namespace and account a block is of depends on its place alone.
//
//   prompt computed     indexPartial: others may copy it, its table goes on writing behind the indexed tokens
//   block full          publishNext: no partial block any more; those that held only its beginning leave
//   sequence ends       keepPartial: in the index with all that was computed, known to the policy from now on
import type { BlockContents, BlockPool } from './blockPool.ts';
import type { BlockTable } from './blockTable.ts';
import type { CacheAccount } from './eviction/policy.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';

/**
 * Fewer tokens are not worth copying a block for. One is: in SmolLM2 on lavapipe a copy takes about 1 ms of a step and a prompt's
 * token 10.
 */
export const MIN_COPY_TOKENS = 1;

export class BlockPublisher {
  readonly #pool: BlockPool;
  readonly #publicAccount: CacheAccount;
  readonly #keepsPartials: boolean;

  /** `keepsPartials`: partly filled blocks are indexed, since something can copy them. */
  constructor(pool: BlockPool, publicAccount: CacheAccount, keepsPartials: boolean) {
    this.#pool = pool;
    this.#publicAccount = publicAccount;
    this.#keepsPartials = keepsPartials;
  }

  /** The table's first private block, full and computed, enters the index; or a block that is like it takes its place. */
  publishNext(table: BlockTable): void {
    const place = table.published;
    const own = table.blocks[place]!;
    this.forgetPartial(table);
    this.#dropBeginnings(table, BLOCK_TOKENS);
    const { parent, namespace, tokens, start } = this.#contents(table, place, BLOCK_TOKENS);
    const indexed = this.#pool.index.insert(parent, namespace, tokens, start, own);
    if (indexed === own) this.#enter(table, place, BLOCK_TOKENS);
    else {
      this.#pool.reference(indexed, 0);
      table.blocks[place] = indexed;
      this.#pool.letGo(own);
    }
    table.published += 1;
  }

  /** The computed part of the block after the published ones can be found from now on, unless another block begins with it. */
  indexPartial(table: BlockTable): void {
    this.forgetPartial(table);
    const count = table.computed - table.published * BLOCK_TOKENS;
    if (!table.namespace || !this.#keepsPartials || count < MIN_COPY_TOKENS) return;
    this.#dropBeginnings(table, count);
    const { parent, namespace, tokens, start } = this.#contents(table, table.published, count);
    const block = table.blocks[table.published]!;
    if (this.#pool.index.insertPartial(parent, namespace, tokens, start, count, block)) table.partialTokens = count;
  }

  /** Its table is about to go: the partly filled block stays in the cache by itself. */
  keepPartial(table: BlockTable): void {
    this.indexPartial(table);
    if (table.partialTokens > 0) this.#enter(table, table.published, table.partialTokens);
  }

  /** The policy doesn't know it: it could not have left while the table uses it. */
  forgetPartial(table: BlockTable): void {
    if (table.partialTokens > 0) this.#pool.index.remove(table.blocks[table.published]!);
    table.partialTokens = 0;
  }

  /** Makes an indexed block of the table known to policy and listener. */
  #enter(table: BlockTable, place: number, count: number): void {
    this.#pool.enter(
      table.blocks[place]!,
      this.#contents(table, place, count),
      {
        depth: place,
        freshBlocks: table.length - table.reused,
        partial: count < BLOCK_TOKENS,
        priority: table.retention,
      },
      place < table.publicBlocks ? this.#publicAccount : null,
    );
  }

  /** Partial blocks that hold nothing but the beginning of the table's next `count` tokens are of no more use. */
  #dropBeginnings(table: BlockTable, count: number): void {
    const { parent, namespace, tokens, start } = this.#contents(table, table.published, count);
    for (;;) {
      const block = this.#pool.index.partialWithin(parent, namespace, tokens, start, count);
      if (block < 0 || this.#pool.references(block) > 0) return;
      this.#pool.dropUnused(block);
    }
  }

  #contents(table: BlockTable, place: number, count: number): BlockContents {
    return {
      parent: table.blockBefore(place),
      namespace: table.namespaceAt(place),
      tokens: table.tokens,
      start: place * BLOCK_TOKENS,
      count,
    };
  }
}
