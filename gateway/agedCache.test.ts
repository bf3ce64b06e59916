import { expect, test } from 'vitest';
import { AgedCache } from './agedCache.ts';

test('what is kept goes stale by the clock alone, and a step back makes nothing younger', () => {
  let nowMs = 1000;
  const cache = new AgedCache<string>(2, 100, { now: () => nowMs });
  cache.set('a', 'first');
  nowMs = 1099;
  expect(cache.get('a')).toBe('first');
  nowMs = 1100;
  expect(cache.get('a')).toBeUndefined();
  cache.set('a', 'second');
  nowMs = 1050;
  expect(cache.get('a')).toBeUndefined();
  nowMs = 1150;
  expect(cache.get('a')).toBe('second');
  cache.delete('a');
  expect(cache.get('a')).toBeUndefined();
});

test('no timer is set: a runtime that drops them with their request keeps nothing for ever', () => {
  const setTimer = globalThis.setTimeout;
  const timers: unknown[] = [];
  globalThis.setTimeout = ((...args: Parameters<typeof setTimer>) => {
    timers.push(args);
    return setTimer(...args);
  }) as typeof setTimer;
  try {
    const cache = new AgedCache<number>(2, 100, { now: Date.now });
    cache.set('a', 1);
    cache.get('a');
    expect(timers).toEqual([]);
  } finally {
    globalThis.setTimeout = setTimer;
  }
});

test('the least recently used go first', () => {
  const cache = new AgedCache<number>(2, 100, { now: () => 0 });
  for (const [i, key] of ['a', 'b', 'c'].entries()) cache.set(key, i);
  expect(['a', 'b', 'c'].map((key) => cache.get(key))).toEqual([undefined, 1, 2]);
});
