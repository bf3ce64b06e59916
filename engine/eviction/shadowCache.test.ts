import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LruEviction } from './lru.ts';
import { NEUTRAL_PRIORITY } from './policy.ts';
import { ShadowCache } from './shadowCache.ts';

const facts = { account: 'a', depth: 0, parent: -1, freshBlocks: 0, partial: false, priority: NEUTRAL_PRIORITY };

/** Digest of a path of small numbers: exact. */
const digestOf = (path: readonly number[]) => path.reduce((digest, step) => digest * 5 + step + 1, 0);

function play(shadow: ShadowCache, path: readonly number[]): number {
  let hits = 0;
  for (let i = 0; i < path.length; i++) {
    const parentDigest = i === 0 ? null : digestOf(path.slice(0, i));
    if (shadow.use(0, parentDigest, { ...facts, digest: digestOf(path.slice(0, i + 1)), depth: i })) hits += 1;
  }
  return hits;
}

/** Leaf-first LRU over paths, in plain lists: what a shadow of LRU must be. */
class ListModel {
  readonly #capacity: number;
  /** Least recently used first; a request's last block is used before its first. */
  #order: string[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  play(path: readonly number[]): number {
    const prefixes = path.map((_, i) => path.slice(0, i + 1).join('/'));
    const held = prefixes.slice(0, this.#capacity);
    const found = prefixes.findIndex((prefix) => !this.#order.includes(prefix));
    const hits = found < 0 ? prefixes.length : found;
    const others = this.#order.filter((prefix) => !held.includes(prefix));
    const kept = others.slice(Math.max(0, others.length + held.length - this.#capacity));
    this.#order = [...kept, ...held.toReversed()];
    return hits;
  }

  get prefixes(): string[] {
    return [...this.#order].sort();
  }
}

describe('shadow cache', () => {
  it('of LRU has the hits that lists kept by hand have, request by request', () => {
    const path = fc.array(fc.nat(3), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.array(path, { maxLength: 80 }), fc.integer({ min: 5, max: 30 }), (paths, capacity) => {
        const shadow = new ShadowCache(capacity, new LruEviction(capacity), () => undefined);
        const model = new ListModel(capacity);
        for (const one of paths) {
          expect(play(shadow, one)).toBe(model.play(one));
          for (const prefix of model.prefixes) expect(shadow.holds(digestOf(prefix.split('/').map(Number)))).toBe(true);
          expect(shadow.size).toBe(model.prefixes.length);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('tells what leaves it, also when it shrinks, and holds no more than it may', () => {
    const gone: number[] = [];
    const shadow = new ShadowCache(6, new LruEviction(6), (_, digest) => gone.push(digest));
    for (let i = 0; i < 6; i++) play(shadow, [i]);
    play(shadow, [6]);
    expect(gone).toEqual([digestOf([0])]);
    shadow.resize(3);
    expect(gone.length).toBe(4);
    expect(shadow.size).toBe(3);
    play(shadow, [7]);
    expect(shadow.size).toBe(3);
    for (const digest of gone) expect(shadow.holds(digest)).toBe(false);
  });

  it('keeps the head of a prompt that is longer than itself', () => {
    const shadow = new ShadowCache(2, new LruEviction(2), () => undefined);
    expect(play(shadow, [0, 1, 2, 3])).toBe(0);
    expect(play(shadow, [0, 1, 2, 3])).toBe(2);
  });
});
