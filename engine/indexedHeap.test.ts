import { describe, expect, it } from 'vitest';
import { randomOf } from '../test/support/random.ts';
import { IndexedHeap } from './indexedHeap.ts';

describe('indexed heap', () => {
  it('has the least first, whatever joined, left or changed', () => {
    const seed = 11;
    const random = randomOf(seed);
    const items = Array.from({ length: 60 }, (_, i) => ({ key: 0, i }));
    const heap = new IndexedHeap<(typeof items)[0]>((a, b) => (a.key - b.key || a.i - b.i) < 0);
    const inside = new Set<(typeof items)[0]>();
    for (let round = 0; round < 5_000; round++) {
      const item = items[Math.floor(random() * items.length)]!;
      const dice = random();
      if (!inside.has(item)) {
        item.key = Math.floor(random() * 20);
        heap.add(item);
        inside.add(item);
      } else if (dice < 0.5) {
        item.key = Math.floor(random() * 20);
        heap.moved(item);
      } else {
        expect(heap.delete(item)).toBe(true);
        inside.delete(item);
        expect(heap.delete(item)).toBe(false);
      }
      const least = [...inside].sort((a, b) => a.key - b.key || a.i - b.i)[0];
      if (heap.first !== least || heap.size !== inside.size) throw new Error(`seed ${seed}, round ${round}`);
    }
    expect(new Set(heap)).toEqual(inside);
  });

  it('takes an item once', () => {
    const heap = new IndexedHeap<object>(() => false);
    const item = {};
    heap.add(item);
    expect(() => heap.add(item)).toThrow('once');
    expect(() => heap.moved({})).toThrow('moves');
  });
});
