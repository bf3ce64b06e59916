import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { PrefixIndex } from './prefixIndex.ts';
import { matchPrefix } from './prefixMatch.ts';
import type { Namespace } from './prefixRun.ts';

const CAPACITY = 400;

/** Tokens [length] that follow `start` and differ from other texts' by `own` from token `from` on. */
const text = (length: number, own = 0, from = 0) =>
  Int32Array.from({ length }, (_, i) => (i < from ? i : i + 1000 * own));

/** An index that hands out block ids by itself. */
class Filled {
  readonly index = new PrefixIndex(CAPACITY);
  next = 0;

  /** Indexes the whole blocks of `tokens`; the blocks that stand for them. */
  insert(tokens: Int32Array, namespace: Namespace): number[] {
    const path: number[] = [];
    for (let start = 0; start + BLOCK_TOKENS <= tokens.length; start += BLOCK_TOKENS) {
      const block = this.index.insert(path.at(-1) ?? -1, namespace, tokens, start, this.next);
      if (block === this.next) this.next += 1;
      path.push(block);
    }
    return path;
  }

  match(tokens: Int32Array, own: Namespace | undefined, maxTokens = tokens.length) {
    return matchPrefix({ own, public: undefined, publicBlocks: 0 }, tokens, maxTokens);
  }
}

describe('prefix index', () => {
  it('keeps what nothing branches off from in one run, and cuts it where a prompt leaves it', () => {
    const filled = new Filled();
    const own = filled.index.open('a', '');
    const trunk = filled.insert(text(160), own);
    expect([...filled.index.runs()].map((run) => run.length)).toEqual([10]);
    const branch = filled.insert(text(160, 1, 100), own);
    expect(branch.slice(0, 6)).toEqual(trunk.slice(0, 6));
    expect([...filled.index.runs()].map((run) => run.length).sort()).toEqual([4, 4, 6]);
    filled.index.check();
    expect(filled.match(text(160), own)).toMatchObject({ blocks: 10 });
    expect(filled.match(text(160, 1, 100), own)).toMatchObject({ blocks: 10 });
  });

  it('offers the block that agrees longest with what follows the match', () => {
    const filled = new Filled();
    const own = filled.index.open('a', '');
    const trunk = filled.insert(text(48), own);
    const near = filled.insert(text(48, 1, 42), own);
    filled.insert(text(48, 2, 35), own);
    // 40 tokens are the trunk's and the near one's; 45 only the trunk's.
    expect(filled.match(text(48, 3, 45), own)).toMatchObject({ blocks: 2, copySource: trunk[2], copyTokens: 13 });
    const like = text(48, 1, 42);
    like[46] = 7;
    expect(filled.match(like, own)).toMatchObject({ blocks: 2, copySource: near[2], copyTokens: 14 });
    expect(filled.match(text(48), own, 40)).toMatchObject({ blocks: 2, copyTokens: 8 });
    expect(filled.match(text(48), own, 32)).toMatchObject({ blocks: 2, copySource: -1, copyTokens: 0 });
    // Inside a run as at its end.
    expect(filled.match(text(48, 4, 20), own)).toMatchObject({ blocks: 1, copySource: trunk[1], copyTokens: 4 });
  });

  it('finds a partial block by what it holds, and indexes none that another one covers', () => {
    const filled = new Filled();
    const own = filled.index.open('a', '');
    const [head] = filled.insert(text(16), own);
    expect(filled.index.insertPartial(head!, own, text(26), 16, 10, 100)).toBe(true);
    expect(filled.index.insertPartial(head!, own, text(22), 16, 6, 101)).toBe(false);
    expect(filled.index.insertPartial(head!, own, text(26, 1, 20), 16, 10, 102)).toBe(true);
    expect(filled.match(text(40), own)).toMatchObject({ blocks: 1, copySource: 100, copyTokens: 10 });
    expect(filled.match(text(40, 1, 20), own)).toMatchObject({ copySource: 102, copyTokens: 10 });
    expect(filled.index.partialWithin(head!, own, text(40), 16, 16)).toBe(100);
    expect(filled.index.partialWithin(head!, own, text(40, 2, 24), 16, 16)).toBe(-1);
    filled.index.check();
  });

  it('lets everybody into the public head, and nobody into what another namespace hung onto it', () => {
    const filled = new Filled();
    const shared = filled.index.open('public', '');
    const [a, b] = [filled.index.open('a', ''), filled.index.open('b', '')];
    const head = filled.insert(text(48), shared);
    const next = filled.next++;
    filled.index.insert(head[1]!, a, text(48), 32, next);
    const look = (own: Namespace) => matchPrefix({ own, public: shared, publicBlocks: 2 }, text(48), 48);
    expect(look(a)).toMatchObject({ blocks: 3, copySource: -1 });
    expect(look(b)).toMatchObject({ blocks: 2, copySource: -1, copyTokens: 0 });
    // Withdrawn: neither the head nor what hangs off it.
    expect(filled.match(text(48), a)).toMatchObject({ blocks: 0, copyTokens: 0 });
    filled.index.check();
  });

  it('knows namespaces only as long as they are used', () => {
    const filled = new Filled();
    const own = filled.index.open('a', '');
    const path = filled.insert(text(32), own);
    filled.index.close(own);
    expect(filled.index.find('a', '')).toBe(own);
    for (const block of path.reverse()) filled.index.remove(block);
    expect(filled.index.find('a', '')).toBeUndefined();
    expect(filled.index.namespaces).toBe(0);
  });

  it('matches as a list of prefixes does, through inserting, branching and removing', () => {
    // Few tokens and short texts, so that almost every operation meets another's path.
    const tokens = fc.array(fc.nat(2), { minLength: 64, maxLength: 64 }).map((list) => {
      const ids = Int32Array.from({ length: 64 }, (_, i) => list[i]!);
      for (let i = 0; i < 64; i++) if (i % 16 > 1) ids[i] = 0;
      return ids;
    });
    const operation = fc.tuple(fc.nat(5), tokens, fc.nat(64), fc.nat(1_000), fc.nat(1));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (operations) => {
        const index = new PrefixIndex(CAPACITY);
        const namespaces = [index.open('a', ''), index.open('a', 'adapter')] as const;
        const known = new Map<string, number>();
        const keyOf = (which: number, ids: Int32Array, length: number) => `${which}:${ids.subarray(0, length).join()}`;
        let next = 0;
        for (const [what, ids, maxTokens, pick, which] of operations) {
          const namespace = namespaces[which as 0 | 1];
          if (what <= 2) {
            let parent = -1;
            for (let start = 0; start + 16 <= maxTokens; start += 16) {
              const block = index.insert(parent, namespace, ids, start, next);
              const before = known.get(keyOf(which, ids, start + 16));
              expect(block).toBe(before ?? next);
              if (before === undefined) known.set(keyOf(which, ids, start + 16), next++);
              parent = block;
            }
          } else if (what === 3 && known.size > 0) {
            const [key, block] = [...known][pick % known.size]!;
            const leaf = ![...known.keys()].some((other) => other.startsWith(`${key},`));
            expect(index.isLeaf(block)).toBe(leaf);
            if (leaf) {
              index.remove(block);
              known.delete(key);
            }
          }
          index.check();
          let blocks = 0;
          while ((blocks + 1) * 16 <= maxTokens && known.has(keyOf(which, ids, (blocks + 1) * 16))) blocks += 1;
          let copyTokens = 0;
          for (let count = Math.min(16, maxTokens - blocks * 16); count > 0 && copyTokens === 0; count--) {
            const begin = keyOf(which, ids, blocks * 16 + count);
            const length = 16 * (blocks + 1);
            const found = [...known.keys()].some(
              (key) => key.split(',').length === length && `${key},`.startsWith(`${begin},`),
            );
            if (found) copyTokens = count;
          }
          const found = matchPrefix({ own: namespace, public: undefined, publicBlocks: 0 }, ids, maxTokens);
          expect(found).toMatchObject({ blocks, copyTokens });
        }
      }),
      { numRuns: 150 },
    );
  });
});
