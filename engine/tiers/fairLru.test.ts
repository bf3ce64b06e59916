import { describe, expect, it } from 'vitest';
import { randomOf } from '../../test/support/random.ts';
import { FairLru } from './fairLru.ts';

const HOUR = 3_600_000;

/** Puts one entry of 1 byte and keeps the whole within `capacity`; who had to give. */
function put(lru: FairLru<string>, owner: string, key: string, nowMs: number, capacity: number): string[] {
  lru.put(key, { owner, bytes: 1, usedMs: nowMs });
  const gave: string[] = [];
  while (lru.bytes > capacity) {
    const victim = lru.victim(nowMs) ?? '';
    gave.push(victim);
    lru.delete(victim);
  }
  return gave;
}

describe('who gives when a store is full', () => {
  it('a single owner: what it used longest ago', () => {
    const lru = new FairLru<string>(HOUR);
    for (let i = 0; i < 10; i++) put(lru, 'a', `a${i}`, i, 10);
    lru.use('a0', 10);
    expect(put(lru, 'a', 'new', 11, 10)).toEqual(['a1']);
    expect(put(lru, 'a', 'newer', 12, 10)).toEqual(['a2']);
  });

  it('a clock that is set back makes no difference to the order of use', () => {
    const lru = new FairLru<string>(HOUR);
    for (let i = 0; i < 10; i++) put(lru, 'a', `a${i}`, 100 * HOUR + i, 10);
    const gave = Array.from({ length: 10 }, (_, i) => put(lru, 'a', `b${i}`, HOUR + i, 10));
    expect(gave.flat()).toEqual(Array.from({ length: 10 }, (_, i) => `a${i}`));
    lru.use('b0', HOUR + 10);
    expect(put(lru, 'a', 'new', HOUR + 11, 10)).toEqual(['b1']);
  });

  it('a flood takes from itself once it has an equal share', () => {
    const lru = new FairLru<string>(HOUR);
    for (const owner of ['a', 'b', 'c']) for (let i = 0; i < 20; i++) put(lru, owner, `${owner}${i}`, 0, 100);
    for (let i = 0; i < 1000; i++) put(lru, 'flood', `f${i}`, i, 100);
    const held = (owner: string) =>
      Array.from({ length: 20 }, (_, i) => lru.get(`${owner}${i}`)).filter(Boolean).length;
    expect(['a', 'b', 'c'].map(held)).toEqual([20, 20, 20]);
  });

  it('shares are in proportion to weights, as last told, also of who holds nothing yet', () => {
    const lru = new FairLru<string>(HOUR);
    lru.weigh('heavy', 3);
    const held = (owner: string) =>
      Array.from({ length: 300 }, (_, i) => lru.get(`${owner}${i}`)).filter(Boolean).length;
    const bothFlood = (nowMs: number) => {
      for (let i = 0; i < 300; i++)
        for (const owner of ['heavy', 'light']) put(lru, owner, `${owner}${i}`, nowMs + i, 100);
      return [held('heavy'), held('light')];
    };
    expect(bothFlood(0)).toEqual([75, 25]);
    lru.weigh('heavy', 1);
    lru.weigh('light', 4);
    expect(bothFlood(1000)).toEqual([20, 80]);
    lru.weigh('heavy', 4);
    put(lru, 'heavy', 'more', 2000, 100);
    expect(held('light'), 'a weight that rises takes from the others with the next entry').toBe(79);
  });

  it('who is below an equal share takes from who is above', () => {
    const lru = new FairLru<string>(HOUR);
    for (let i = 0; i < 100; i++) put(lru, 'flood', `f${i}`, 0, 100);
    for (let i = 0; i < 100; i++) put(lru, 'late', `l${i}`, 1, 100);
    const late = Array.from({ length: 100 }, (_, i) => lru.get(`l${i}`)).filter(Boolean).length;
    expect(late).toBeGreaterThanOrEqual(50);
    expect(late).toBeLessThanOrEqual(51);
  });

  it('shares are for those who are there: what nobody used for long goes first', () => {
    const lru = new FairLru<string>(HOUR);
    for (let i = 0; i < 50; i++) put(lru, 'gone', `g${i}`, 0, 100);
    for (let i = 0; i < 50; i++) put(lru, 'here', `h${i}`, 2 * HOUR, 100);
    expect(put(lru, 'here', 'new', 2 * HOUR, 100)).toEqual(['g0']);
  });

  it('entries that are learnt of in another order leave in the order of use', () => {
    const random = randomOf(5);
    const lru = new FairLru<string>(Number.POSITIVE_INFINITY);
    const used = Array.from({ length: 500 }, (_, i) => ({
      key: `k${i}`,
      usedMs: Math.floor(random() * 1e6) * 120_000,
    }));
    for (const { key, usedMs } of used) lru.put(key, { owner: 'a', bytes: 1, usedMs });
    for (const { usedMs } of used.toSorted((a, b) => a.usedMs - b.usedMs)) {
      const victim = lru.victim(1e12) ?? '';
      expect(lru.get(victim)?.usedMs).toBe(usedMs);
      lru.delete(victim);
    }
    expect([lru.size, lru.bytes, lru.victim(0)]).toEqual([0, 0, null]);
  });

  it('what another process used long after we did costs no sort of all the others', () => {
    const lru = new FairLru<number>(Number.POSITIVE_INFINITY);
    const count = 30_000;
    for (let i = 0; i < count; i++) lru.put(i, { owner: 'a', bytes: 1, usedMs: i * 1000 });
    const beganMs = performance.now();
    for (let i = 0; i < count / 2; i++) {
      expect(lru.victim(count * 1000)).toBe(i);
      lru.use(i, (count / 2) * 1000 + i);
    }
    // With a sort each it takes minutes.
    expect(performance.now() - beganMs).toBeLessThan(10_000);
    expect(lru.victim(count * 1000)).toBe(count / 2);
  });

  it('against a naive model: the same victim after any history, also where uses are learnt of late', () => {
    const seed = Number(process.env.HEARTH_TEST_SEED ?? 11);
    const random = randomOf(seed);
    // Times are further apart than those which count as equal.
    const tickMs = 240_000;
    const staleMs = 5000 * tickMs;
    const lru = new FairLru<number>(staleMs);
    const told = new Set<number>();
    const lateMs = (tick: number): number => {
      for (;;) {
        const earlier = Math.floor(random() * tick) * tickMs + tickMs / 2;
        if (told.has(earlier)) continue;
        told.add(earlier);
        return earlier;
      }
    };
    const weights = new Map<string, number>();
    const model = new Map<number, { owner: string; bytes: number; usedMs: number }>();
    for (let tick = 0; tick < 20_000; tick++) {
      const nowMs = tick * tickMs;
      const usedMs = tick > 100 && random() < 0.2 ? lateMs(tick) : nowMs;
      const key = Math.floor(random() * 60);
      const dice = random();
      if (random() < 0.05) {
        const [owner, weight] = [`o${Math.floor(random() * 5)}`, [0.5, 1, 3][Math.floor(random() * 3)]!];
        lru.weigh(owner, weight);
        weights.set(owner, weight);
      }
      if (dice < 0.5) {
        const entry = { owner: `o${Math.floor(random() * 5)}`, bytes: 1 + Math.floor(random() * 3), usedMs };
        lru.put(key, entry);
        model.delete(key);
        model.set(key, { ...entry });
      } else if (dice < 0.8) {
        lru.use(key, usedMs);
        const entry = model.get(key);
        if (entry) model.set(key, { ...entry, usedMs });
      } else {
        expect(lru.delete(key)).toBe(model.delete(key));
      }
      const victim = lru.victim(nowMs);
      const entries = [...model.entries()].sort(([, a], [, b]) => a.usedMs - b.usedMs);
      const held = new Map<string, number>();
      for (const [, { owner, bytes }] of entries) held.set(owner, (held.get(owner) ?? 0) + bytes);
      const load = (owner: string) => (held.get(owner) ?? 0) / (weights.get(owner) ?? 1);
      const most = Math.max(...[...held.keys()].map(load));
      const stale = entries[0] && nowMs - entries[0][1].usedMs > staleMs;
      const may = entries.filter(
        ([key_, { owner }]) => load(owner) === most && entries.find(([, other]) => other.owner === owner)?.[0] === key_,
      );
      if (entries.length === 0) expect(victim).toBeNull();
      else if (stale) expect(victim, `seed ${seed}`).toBe(entries[0]?.[0]);
      else
        expect(
          may.map(([key_]) => key_),
          `seed ${seed}`,
        ).toContain(victim);
      expect(lru.bytes).toBe([...held.values()].reduce((sum, bytes) => sum + bytes, 0));
    }
  });
});
