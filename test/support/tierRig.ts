// An arena and a prefix index in miniature, for the tiers: a block's bytes follow from all tokens up to its end, so that a block of
// another prompt, position or tenant shows as wrong bytes. It plays the runner (BlockTransfer) and the block manager (stored, removed).
import { createHash } from 'node:crypto';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import type { BlockTransfer, CachedPath, CacheScope, KvTiers } from '../../engine/tiers/port.ts';
import { randomOf } from './random.ts';

export const scopeOf = (name: string): CacheScope => ({
  namespace: name,
  sealKey: createHash('sha256').update(`seal ${name}`).digest(),
});

export const pathOf = (scope: CacheScope, tokens: Int32Array, over: Partial<CachedPath> = {}): CachedPath => ({
  ...{ tokens, extra: '', scope, account: { name: scope.namespace, weight: 1 }, publicScope: null, publicBlocks: 0 },
  ...over,
});

/** `blocks` whole blocks of tokens; prompts of one seed share as much as they have. */
export function promptOf(seed: number, blocks: number): Int32Array {
  const random = randomOf(seed);
  return Int32Array.from({ length: blocks * BLOCK_TOKENS }, () => Math.floor(random() * 2 ** 31));
}

/** What a runner would have computed for block `index` of a prompt. */
export function kvOf(tokens: Int32Array, index: number, blockBytes: number): Uint8Array {
  const prefix = tokens.slice(0, (index + 1) * BLOCK_TOKENS);
  const digest = createHash('sha256').update(new Uint8Array(prefix.buffer)).digest();
  return Uint8Array.from({ length: blockBytes }, (_, i) => digest[i % 32]! ^ (i >> 5));
}

export class TierRig implements BlockTransfer {
  readonly blockBytes: number;
  readonly writeMs = 0.01;
  /** Most reads under way; more are refused. */
  maxReads = Number.POSITIVE_INFINITY;
  readonly #arena = new Map<number, Uint8Array>();
  #reads = 0;
  #nextBlock = 0;

  constructor(blockBytes = 4096) {
    this.blockBytes = blockBytes;
  }

  readBlock(block: number): Promise<Uint8Array | null> | null {
    const bytes = this.#arena.get(block);
    if (!bytes) throw new Error(`block ${block} holds nothing`);
    if (this.#reads >= this.maxReads) return null;
    this.#reads += 1;
    const copy = bytes.slice();
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#reads -= 1;
        resolve(copy);
      });
    });
  }

  writeBlock(block: number, bytes: Uint8Array): void {
    this.#arena.set(block, bytes.slice());
  }

  /** A request computes the whole prompt: its arena blocks, in order. Ids rise, as if each were free again once removed. */
  compute(tiers: KvTiers, path: CachedPath): number[] {
    tiers.probe(path, 0, path.tokens.length);
    const blocks: number[] = [];
    for (let i = 0; (i + 1) * BLOCK_TOKENS <= path.tokens.length; i++) {
      const block = this.#nextBlock++;
      this.#arena.set(block, kvOf(path.tokens, i, this.blockBytes));
      const scope = path.publicScope && i < path.publicBlocks ? path.publicScope : path.scope;
      const own = path.tokens.subarray(i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS);
      tiers.stored(block, blocks.at(-1) ?? -1, scope.namespace, path.extra, own);
      blocks.push(block);
    }
    return blocks;
  }

  /** The GPU gives up blocks, tails first; what they held is overwritten at once. */
  evict(tiers: KvTiers, blocks: readonly number[], why: 'evicted' | 'discarded' = 'evicted'): void {
    for (const block of [...blocks].reverse()) {
      tiers.removed(block, why);
      this.#arena.set(block, new Uint8Array(this.blockBytes));
      this.#arena.delete(block);
    }
  }
}

/** Leading blocks of the path that a load brings; throws where one of them is wrong. */
export async function loadAll(tiers: KvTiers, path: CachedPath, blockBytes: number, from = 0): Promise<number> {
  const { signal } = new AbortController();
  const wanted = Math.floor(path.tokens.length / BLOCK_TOKENS) - from;
  const { blocks } = await tiers.load(path, from, wanted, signal);
  for (const [i, bytes] of blocks.entries())
    if (!Buffer.from(bytes).equals(kvOf(path.tokens, from + i, blockBytes)))
      throw new Error(`block ${from + i} has wrong bytes`);
  return blocks.length;
}

/** Waits until `done`, and no longer than some seconds. */
export async function until(done: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !done(); tries++) {
    if (tries > 1000) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
