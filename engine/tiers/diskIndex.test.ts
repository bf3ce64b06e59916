import { describe, expect, it } from 'vitest';
import { randomOf } from '../../test/support/random.ts';
import { DiskIndex, SHARDS, shardOf } from './diskIndex.ts';

const idOf = (random: () => number): string =>
  Array.from({ length: 32 }, () => Math.floor(random() * 16).toString(16)).join('');
const MINUTE = 60_000;

describe('disk index', () => {
  it('gives up what was used longest ago, in whatever order it learnt of it', () => {
    const seed = 7;
    const random = randomOf(seed);
    const index = new DiskIndex();
    const known = new Map<string, number>();
    for (let i = 0; i < 2000; i++) {
      const id = idOf(random);
      const usedMs = Math.floor(random() * 10_000) * 2 * MINUTE;
      known.set(id, usedMs);
      index.noteName(id, 1e12);
      index.note(id, 5000, usedMs);
    }
    for (const id of [...known.keys()].slice(0, 500)) {
      known.set(id, 1e12);
      index.use(id, 1e12);
    }
    const order = [...known].sort(([, a], [, b]) => a - b).slice(0, 1500);
    for (const [, usedMs] of order) {
      const oldest = index.victim(1e12) ?? '';
      expect(known.get(oldest), `seed ${seed}`).toBe(usedMs);
      index.forget(oldest);
    }
    expect(index.records).toBe(500);
  });

  it('counts whole pages, once per record', () => {
    const index = new DiskIndex();
    index.noteName('a'.repeat(32), 1);
    expect([index.records, index.bytes]).toEqual([1, 0]);
    index.note('a'.repeat(32), 1, 1);
    index.note('a'.repeat(32), 4097, 2);
    index.use('a'.repeat(32), 3);
    expect([index.records, index.bytes]).toEqual([1, 8192]);
    index.forget('a'.repeat(32));
    index.forget('a'.repeat(32));
    expect([index.records, index.bytes, index.victim(3)]).toEqual([0, 0, null]);
  });

  it('a name that is known already is not made unknown by seeing it again', () => {
    const index = new DiskIndex();
    index.note('b'.repeat(32), 10, 1);
    index.noteName('b'.repeat(32), 2);
    expect(index.get('b'.repeat(32))).toMatchObject({ measured: true, usedMs: 1 });
  });

  it('spreads ids over all shards', () => {
    const random = randomOf(3);
    const shards = new Set(Array.from({ length: 2000 }, () => shardOf(idOf(random))));
    expect(shards.size).toBe(SHARDS);
  });
});
