// Which blocks an engine's prefix index holds, as the HTTP thread knows it: turns the changes that the engine tells into events with
// ids, and can tell the whole of it to somebody who comes later.
import { invariant } from '../engine/invariant.ts';
import { BLOCK_TOKENS } from '../engine/modelRunner.ts';
import type { BlockChange, BlockChanges } from './blockFeed.ts';
import { MAX_EVENT_BLOCKS, nextBlockId, scopeKey, scopeName } from './wire/kvEvents.ts';

interface StoredRun {
  kind: 'stored';
  scope: string;
  parent: string | null;
  ids: string[];
  /** 16 of each. */
  tokens: Int32Array[];
}

export type BlockNews = StoredRun | { kind: 'removed'; scope: string; ids: string[] };

interface Held {
  id: string;
  parent: string | null;
  scope: string;
}

export class BlockMirror {
  /** Parents before what continues them: in the order of storing. */
  readonly #held = new Map<number, Held>();
  readonly #tokens: Int32Array;
  /** The last namespace's; changes come in runs of one. */
  #scope: { namespace: string; extra: string; key: Uint8Array; name: string } | null = null;

  constructor(capacityBlocks: number) {
    this.#tokens = new Int32Array(capacityBlocks * BLOCK_TOKENS);
  }

  get size(): number {
    return this.#held.size;
  }

  apply({ changes, tokens }: BlockChanges): BlockNews[] {
    const news: BlockNews[] = [];
    let place = 0;
    for (const change of changes) {
      if (change.kind === 'removed') this.#remove(change.block, news);
      else {
        this.#store(change, tokens.subarray(place, place + BLOCK_TOKENS), news);
        place += BLOCK_TOKENS;
      }
    }
    return news;
  }

  /** All that is held, parents first. The tokens are views: valid until the next change. */
  snapshot(): BlockNews[] {
    const news: BlockNews[] = [];
    for (const [block, held] of this.#held) appendStored(news, held, this.#tokensOf(block));
    return news;
  }

  #store(change: Extract<BlockChange, { kind: 'stored' }>, tokens: Int32Array, news: BlockNews[]): void {
    const { block } = change;
    const { key, name } = this.#scopeOf(change);
    const parent = change.parent === -1 ? null : this.#held.get(change.parent);
    invariant(parent !== undefined && !this.#held.has(block), 'a stored block is new and continues one that is held', {
      block,
      parent: change.parent,
    });
    const held = { id: nextBlockId(key, parent?.id ?? null, tokens), parent: parent?.id ?? null, scope: name };
    this.#held.set(block, held);
    this.#tokensOf(block).set(tokens);
    appendStored(news, held, tokens);
  }

  #remove(block: number, news: BlockNews[]): void {
    const held = this.#held.get(block);
    invariant(held, 'a removed block was held', { block });
    this.#held.delete(block);
    const last = news.at(-1);
    if (last?.kind === 'removed' && last.scope === held.scope && last.ids.length < MAX_EVENT_BLOCKS)
      last.ids.push(held.id);
    else news.push({ kind: 'removed', scope: held.scope, ids: [held.id] });
  }

  #tokensOf(block: number): Int32Array {
    return this.#tokens.subarray(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS);
  }

  #scopeOf({ namespace, extra }: { namespace: string; extra: string }): { key: Uint8Array; name: string } {
    if (this.#scope?.namespace !== namespace || this.#scope.extra !== extra) {
      const key = scopeKey(namespace, extra);
      this.#scope = { namespace, extra, key, name: scopeName(key) };
    }
    return this.#scope;
  }
}

/** Makes the last run longer where the block continues it. */
function appendStored(news: BlockNews[], { id, parent, scope }: Held, tokens: Int32Array): void {
  const last = news.at(-1);
  if (
    last?.kind === 'stored' &&
    last.scope === scope &&
    last.ids.at(-1) === parent &&
    last.ids.length < MAX_EVENT_BLOCKS
  ) {
    last.ids.push(id);
    last.tokens.push(tokens);
  } else news.push({ kind: 'stored', scope, parent, ids: [id], tokens: [tokens] });
}
