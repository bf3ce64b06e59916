import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockManager, type BlockTable } from './blockManager.ts';

const text = (length: number, own = 0) => Int32Array.from({ length }, (_, i) => (i < 200 - own ? i : 1000 * own + i));

function admit(
  blocks: BlockManager,
  tokens: Int32Array,
  over: { scope?: string | null; maxCached?: number; headroomBlocks?: number; capacityPositions?: number } = {},
): BlockTable | null {
  return blocks.admit({
    scope: 'scope',
    tokens,
    positions: tokens.length,
    maxCached: tokens.length - 1,
    capacityPositions: tokens.length + 64,
    headroomBlocks: 0,
    ...over,
  });
}

/** Admits, computes all of it, publishes. */
function run(blocks: BlockManager, tokens: Int32Array, scope: string | null = 'scope'): BlockTable {
  const table = admit(blocks, tokens, { scope })!;
  blocks.publish(table, tokens, tokens.length);
  return table;
}

describe('block manager', () => {
  it('shares full blocks of equal prefixes, and only those', () => {
    const blocks = new BlockManager(20);
    const first = run(blocks, text(40));
    expect(blocks.cachedPrefix('scope', text(100), 100)).toBe(32);
    const second = admit(blocks, text(60))!;
    expect([...second.view().subarray(0, 2)]).toEqual([...first.view().subarray(0, 2)]);
    expect(second.view()[2]).not.toBe(first.view()[2]);
    expect(blocks.freeBlocks).toBe(20 - 3 - 2);
    blocks.checkInvariants([first, second]);
  });

  it('finds nothing where one token of the first block differs, nor in another namespace', () => {
    const blocks = new BlockManager(20);
    run(blocks, text(40));
    const other = text(40);
    other[3] = 77;
    expect(blocks.cachedPrefix('scope', other, 40)).toBe(0);
    expect(blocks.cachedPrefix('other', text(40), 40)).toBe(0);
    expect(blocks.cachedPrefix(null, text(40), 40)).toBe(0);
  });

  it('tells apart tokens that agree in 16 bits', () => {
    const blocks = new BlockManager(20);
    run(blocks, new Int32Array(32).fill(5));
    expect(blocks.cachedPrefix('scope', new Int32Array(32).fill(5 + 0x10000), 32)).toBe(0);
  });

  it('leaves a token to compute: a prompt of whole blocks hits all but the last', () => {
    const blocks = new BlockManager(20);
    run(blocks, text(48));
    expect(admit(blocks, text(48))!.published).toBe(2);
  });

  it('neither reads nor writes without a scope', () => {
    const blocks = new BlockManager(20);
    const table = run(blocks, text(48), null);
    blocks.release(table);
    expect(blocks.freeBlocks).toBe(20);
  });

  it('goes on with the block of whoever computed it first, and frees its own copy', () => {
    const blocks = new BlockManager(20);
    const first = admit(blocks, text(40))!;
    const second = admit(blocks, text(40))!;
    blocks.publish(first, text(40), 40);
    expect(blocks.freeBlocks).toBe(14);
    blocks.publish(second, text(40), 40);
    expect([...second.view().subarray(0, 2)]).toEqual([...first.view().subarray(0, 2)]);
    expect(blocks.freeBlocks).toBe(16);
    blocks.checkInvariants([first, second]);
    blocks.release(first);
    blocks.checkInvariants([second]);
    expect(blocks.cachedBlocks).toBe(0);
    blocks.release(second);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([18, 2]);
    blocks.checkInvariants([]);
  });

  it('evicts tails before heads, the least recently used first, never what is in use', () => {
    const blocks = new BlockManager(8);
    const old = run(blocks, text(48));
    blocks.release(old);
    const recent = run(
      blocks,
      text(32, 1).map((token) => token + 5000),
    );
    blocks.release(recent);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([3, 5]);
    const used = admit(blocks, text(17))!;
    expect(used.published).toBe(1);
    const filler = admit(
      blocks,
      text(48).map((token) => token + 9000),
      { scope: null },
    )!;
    // 3 were free; 1 + 3 were needed: the third block of the old text went.
    expect(blocks.evictions).toBe(1);
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(32);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(32);
    blocks.checkInvariants([used, filler]);
    expect(blocks.grow(filler, 64)).toBe(true);
    // The old text's second block went before the recent text's.
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(16);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(32);
    expect(blocks.grow(filler, 96)).toBe(true);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(0);
    expect(blocks.grow(filler, 112)).toBe(false);
    expect(filler.length).toBe(6);
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(16);
    blocks.checkInvariants([used, filler]);
  });
  const recentText = () => text(32, 1).map((token) => token + 5000);

  it('counts the hits that an admission would take from the evictable ones', () => {
    const blocks = new BlockManager(4);
    blocks.release(run(blocks, text(48)));
    // 4 available, of which 2 would be hit and 1 taken: 1 is left.
    expect(admit(blocks, text(48), { headroomBlocks: 2 })).toBeNull();
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([1, 3]);
    const table = admit(blocks, text(48), { headroomBlocks: 1 })!;
    expect(table.published).toBe(2);
    expect(
      admit(
        blocks,
        text(33, 9).map((token) => token + 7000),
      ),
    ).toBeNull();
    blocks.checkInvariants([table]);
  });

  it('discards what only it uses: the next request does not find it', () => {
    const blocks = new BlockManager(20);
    const healthy = run(blocks, text(20));
    const tainted = run(blocks, text(64));
    const below = run(blocks, text(96));
    blocks.release(below);
    expect(blocks.cachedPrefix('scope', text(96), 96)).toBe(96);
    blocks.discard(tainted);
    blocks.checkInvariants([healthy]);
    expect(blocks.cachedPrefix('scope', text(96), 96)).toBe(16);
    blocks.release(healthy);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([19, 1]);
  });

  it('keeps its books through any sequence of operations', () => {
    const operation = fc.tuple(fc.nat(5), fc.nat(1_000), fc.nat(100), fc.nat(2));
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 24 }), fc.array(operation, { maxLength: 120 }), (capacity, operations) => {
        const blocks = new BlockManager(capacity);
        const live: { table: BlockTable; tokens: Int32Array; length: number }[] = [];
        for (const [what, which, size, own] of operations) {
          const one = live[which % Math.max(1, live.length)];
          if (what <= 1) {
            const tokens = Int32Array.from({ length: 200 }, (_, i) => (i < 20 + 16 * own ? i : i + 1000 * own));
            const length = 1 + size;
            const before = [blocks.freeBlocks, blocks.cachedBlocks];
            const table = blocks.admit({
              scope: own === 2 && size % 4 === 0 ? null : 'scope',
              tokens,
              positions: length,
              maxCached: length - 1,
              capacityPositions: 200,
              headroomBlocks: which % 3,
            });
            if (table) live.push({ table, tokens, length });
            else expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual(before);
          } else if (one && what === 2) {
            const length = Math.min(200, one.length + size);
            if (blocks.grow(one.table, length)) one.length = length;
          } else if (one && what === 3) {
            blocks.publish(one.table, one.tokens, Math.min(one.length, one.table.published * 16 + size));
          } else if (one) {
            if (what === 4 || size % 8 > 0) blocks.release(one.table);
            else blocks.discard(one.table);
            live.splice(live.indexOf(one), 1);
          }
          blocks.checkInvariants(live.map(({ table }) => table));
        }
        for (const { table } of live) blocks.release(table);
        expect(blocks.availableBlocks).toBe(capacity);
      }),
      { numRuns: 400 },
    );
  });
});
