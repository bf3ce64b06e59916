import { describe, expect, it } from 'vitest';
import type { PoolState } from '../wire/states.ts';
import { idleEngines, makeRoom, type Resident } from './residency.ts';

const NOW = 100_000;

function resident(engine: string, usedMsAgo: number, running = 0, state: PoolState = 'warm'): Resident {
  return { engine, state, running, usedMs: NOW - usedMsAgo, deviceBytes: 40 };
}

describe('idleness', () => {
  const rule = { sleepAfterMs: 1000, minWarm: 0 };
  const all = [resident('new', 10), resident('old', 5000), resident('oldest', 9000), resident('busy', 7000, 1)];

  it('puts to sleep who was not asked for long enough, the longest first, never who has requests', () => {
    expect(idleEngines(all, rule, NOW)).toEqual(['oldest', 'old']);
    expect(idleEngines(all, { ...rule, sleepAfterMs: null }, NOW)).toEqual([]);
    expect(idleEngines([resident('a', 9000, 0, 'asleep'), resident('b', 9000, 0, 'waking')], rule, NOW)).toEqual([]);
  });

  it('leaves as many warm as there must be, those used last', () => {
    expect(idleEngines(all, { ...rule, minWarm: 3 }, NOW)).toEqual(['oldest']);
    expect(idleEngines(all, { ...rule, minWarm: 4 }, NOW)).toEqual([]);
    expect(idleEngines([resident('a', 9000)], { ...rule, minWarm: 1 }, NOW)).toEqual([]);
  });
});

describe('room', () => {
  const wanted = resident('wanted', 0, 0, 'asleep');

  it('is there where the budget is, or where there is none', () => {
    expect(makeRoom([resident('a', 5), wanted], wanted, 80)).toEqual({ kind: 'fits' });
    expect(makeRoom([resident('a', 5), wanted], wanted, null)).toEqual({ kind: 'fits' });
    expect(makeRoom([resident('a', 5, 0, 'asleep'), wanted], wanted, 40)).toEqual({ kind: 'fits' });
  });

  it('is made by the least recently used that has no requests', () => {
    const all = [resident('a', 5), resident('b', 9), resident('c', 20, 1), wanted];
    expect(makeRoom(all, wanted, 120)).toEqual({ kind: 'sleep', engine: 'b' });
  });

  it('is waited for at the least recently used where all have requests', () => {
    expect(makeRoom([resident('a', 5, 1), resident('b', 9, 2), wanted], wanted, 100)).toEqual({
      kind: 'yield',
      engine: 'b',
    });
  });
});
