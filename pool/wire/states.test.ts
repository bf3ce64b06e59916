import { describe, expect, it } from 'vitest';
import { distanceToWarm, mayBecome, type PoolState, poolState, stateOfAll } from './states.ts';

/** Rows: from; columns, in the same order: to. */
const TABLE = `
            cold loading warm asleep waking draining stopped
  cold      -    yes     -    -      -      yes      yes
  loading   yes  -       yes  -      -      yes      yes
  warm      yes  yes     -    yes    -      yes      yes
  asleep    -    -       -    -      yes    yes      yes
  waking    -    yes     yes  -      -      yes      yes
  draining  -    -       -    -      -      -        yes
  stopped   -    -       -    -      -      -        -
`;

describe('the states of a pool', () => {
  const [head = [], ...rows] = TABLE.trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/));
  const pairs = rows.flatMap(([from = '', ...cells]) => cells.map((cell, i) => [from, head[i] ?? '', cell === 'yes']));

  it('are all in the table', () => {
    expect(head).toEqual(poolState.options);
    expect(rows.map(([from]) => from)).toEqual(poolState.options);
  });

  it.each(pairs as [PoolState, PoolState, boolean][])('%s → %s: %s', (from, to, allowed) => {
    expect(mayBecome(from, to)).toBe(allowed);
  });

  it('each but the last leads to the end, and each but the last two to warm', () => {
    for (const from of poolState.options) {
      const seen = new Set<PoolState>([from]);
      for (const each of seen) for (const to of poolState.options) if (mayBecome(each, to)) seen.add(to);
      expect(seen.has('stopped')).toBe(true);
      expect(seen.has('warm')).toBe(from !== 'draining' && from !== 'stopped');
    }
  });

  it('of a whole is that of the part nearest to warm', () => {
    expect(stateOfAll(['asleep', 'warm', 'waking'])).toBe('warm');
    expect(stateOfAll(['cold', 'asleep'])).toBe('asleep');
    expect(stateOfAll(['asleep', 'loading'])).toBe('loading');
    expect(stateOfAll([])).toBe('cold');
    expect(poolState.options.map(distanceToWarm)).toEqual([null, 1, 0, 2, 1, null, null]);
  });
});
