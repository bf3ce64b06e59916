import { describe, expect, it } from 'vitest';
import { request } from '../test/support/engineHarness.ts';
import { BlockManager } from './blockManager.ts';
import { Shares } from './reclaim.ts';
import { Sequence } from './sequence.ts';

let arrivals = 0;

function sequence(tenant: string, blocks = 1, weight = 1): Sequence {
  const ids = new Array<number>(blocks * 16).fill(1);
  return new Sequence(request(`s${arrivals}`, ids, { tenant, weight }), arrivals++);
}

function running(tenant: string, blocks = 1, weight = 1): Sequence {
  const one = sequence(tenant, blocks, weight);
  const positions = blocks * 16;
  one.table = new BlockManager(blocks).admit({
    scope: null,
    tokens: one.tokens,
    positions,
    maxCached: 0,
    capacityPositions: positions,
    headroomBlocks: 0,
  });
  return one;
}

const many = (tenant: string, count: number, blocks = 1) =>
  Array.from({ length: count }, () => running(tenant, blocks));
const byBlocks = (one: Sequence) => one.table!.length;
const capacity = (over: Partial<ConstructorParameters<typeof Shares>[1]> = {}) => ({
  maxRunning: 8,
  blocks: 80,
  availableBlocks: 40,
  activeWeight: 2,
  ...over,
});

describe('shares', () => {
  it('who is over its share yields the sequence with the least to recompute, the youngest of equals', () => {
    const held = [running('flood', 3), ...many('flood', 5, 2), ...many('own', 2)];
    const shares = new Shares(held, capacity());
    const candidate = sequence('own');
    expect(shares.entitled(candidate)).toBe(true);
    expect(shares.yielding(candidate, byBlocks)).toEqual([held[5]]);
  });

  it('no tenant takes more than its share, and none is taken below it', () => {
    const even = new Shares([...many('a', 4), ...many('b', 4)], capacity());
    expect(even.entitled(sequence('a'))).toBe(false);
    expect(even.entitled(sequence('c'))).toBe(true);
    expect(even.yielding(sequence('c'), byBlocks)).toBeNull();
    // With a third tenant a share is 8 / 3 slots.
    const three = new Shares([...many('a', 4), ...many('b', 4)], capacity({ activeWeight: 3 }));
    expect(three.yielding(sequence('c'), byBlocks)).toHaveLength(1);
  });

  it('a share is weighted, and a tenant with nothing running is entitled to one slot however small its share', () => {
    const held = [...many('a', 7), running('b', 1, 0.1)];
    const weights = capacity({ activeWeight: 1.1 });
    expect(new Shares(held, weights).entitled(sequence('b', 1, 0.1))).toBe(false);
    expect(new Shares(held.slice(0, 7), weights).entitled(sequence('b', 1, 0.1))).toBe(true);
  });

  it('blocks count as slots do: whichever a tenant uses more of', () => {
    const held = [running('big', 40), running('big', 38), running('small')];
    const shares = new Shares(held, capacity({ availableBlocks: 1 }));
    expect(shares.entitled(sequence('big'))).toBe(false);
    expect(shares.yielding(sequence('small', 4), byBlocks)).toEqual([held[1]]);
    // One that needs more than its share of blocks has to wait its turn.
    expect(shares.entitled(sequence('small', 41))).toBe(false);
  });

  it('takes nothing where it would not be enough, from nobody twice, and no tenant’s last', () => {
    const held = many('flood', 8);
    for (const each of held.slice(0, 7)) each.preemptions = 1;
    expect(new Shares(held, capacity()).yielding(sequence('own'), byBlocks)).toEqual([held[7]]);
    held[7]!.preemptions = 1;
    expect(new Shares(held, capacity()).yielding(sequence('own'), byBlocks)).toBeNull();
    const last = new Shares([running('flood', 70)], capacity({ availableBlocks: 2 }));
    expect(last.yielding(sequence('own', 20), byBlocks)).toBeNull();
  });
});
