import { describe, expect, it } from 'vitest';
import { loadAll, pathOf, promptOf, scopeOf, TierRig, until } from '../../test/support/tierRig.ts';
import { RamTier } from './ramTier.ts';
import { TieredCache } from './tieredCache.ts';

const BLOCK = 4096;
const alice = scopeOf('alice');

function rigOf(ramBlocks: number, over: { fingerprint?: string } = {}) {
  const rig = new TierRig(BLOCK);
  const clock = { nowMs: 0 };
  const ram = new RamTier(ramBlocks * (BLOCK + 1024), () => clock.nowMs);
  const tiers = new TieredCache({
    ...{ transfer: rig, fingerprint: 'f', ram, disk: null, writeThrough: false },
    now: () => clock.nowMs,
    ...over,
  });
  const settled = () => until(() => tiers.status().waitingCopies === 0, 'copies done');
  return { rig, ram, tiers, settled, clock };
}

describe('host RAM behind the GPU', () => {
  it('what the GPU evicts is found again, whole and in order', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const path = pathOf(alice, promptOf(1, 10));
    const blocks = rig.compute(tiers, path);
    expect(tiers.probe(path, 0, 160).blocks).toBe(0); // the GPU still has it
    rig.evict(tiers, blocks.slice(4));
    await settled();
    expect(tiers.probe(path, 4, 160)).toMatchObject({ blocks: 6 });
    expect(tiers.probe(path, 4, 100).blocks).toBe(2);
    expect(tiers.probe(path, 5, 160).blocks).toBe(5);
    expect(await loadAll(tiers, path, BLOCK, 4)).toBe(6);
    expect(tiers.status()).toMatchObject({ ram: { blocks: 6, hits: 6 }, misses: 0 });
  });

  it('a prompt that differs in one token hits up to there', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const tokens = promptOf(2, 6);
    rig.evict(tiers, rig.compute(tiers, pathOf(alice, tokens)));
    await settled();
    for (const at of [0, 15, 16, 40, 95]) {
      const changed = tokens.slice();
      changed[at]! ^= 1;
      expect(tiers.probe(pathOf(alice, changed), 0, 96).blocks).toBe(Math.floor(at / 16));
      expect(await loadAll(tiers, pathOf(alice, changed), BLOCK)).toBe(Math.floor(at / 16));
    }
  });

  it('stays within its bytes, and keeps heads rather than tails', async () => {
    const { rig, ram, tiers, settled } = rigOf(20);
    for (let seed = 0; seed < 30; seed++) {
      rig.evict(tiers, rig.compute(tiers, pathOf(alice, promptOf(seed, 8))));
      await settled();
      expect(ram.bytes).toBeLessThanOrEqual(ram.capacityBytes);
    }
    expect(ram.blocks).toBe(20);
    const kept = [29, 28, 27, 26].map((seed) => tiers.probe(pathOf(alice, promptOf(seed, 8)), 0, 128).blocks);
    expect(kept).toEqual([8, 8, 4, 0]);
  });

  it('a tenant who floods it takes from himself, not from those with less', async () => {
    const { rig, tiers, settled, clock } = rigOf(40);
    const quiet = pathOf(scopeOf('quiet'), promptOf(1, 10));
    rig.evict(tiers, rig.compute(tiers, quiet));
    for (let seed = 2; seed < 40; seed++) {
      clock.nowMs += 1000;
      rig.evict(tiers, rig.compute(tiers, pathOf(scopeOf('flood'), promptOf(seed, 8))));
      await settled();
    }
    expect(tiers.probe(quiet, 0, 160).blocks).toBe(10);
    clock.nowMs += 4_000_000; // and long after the last use nobody keeps a share
    for (let seed = 50; seed < 56; seed++) {
      rig.evict(tiers, rig.compute(tiers, pathOf(scopeOf('flood'), promptOf(seed, 8))));
      await settled();
    }
    expect(tiers.probe(quiet, 0, 160).blocks).toBe(0);
  });

  it('is shared by the weights that requests bring', async () => {
    const { rig, ram, tiers, settled } = rigOf(40);
    const owned = { heavy: 3, light: 1 };
    for (let seed = 0; seed < 40; seed++)
      for (const [name, weight] of Object.entries(owned)) {
        const path = pathOf(scopeOf(name), promptOf(seed, 1), { account: { name, weight } });
        rig.evict(tiers, rig.compute(tiers, path));
        await settled();
      }
    expect(ram.blocks).toBe(40);
    const held = Object.keys(owned).map((name) => {
      const asked = Array.from({ length: 40 }, (_, seed) => pathOf(scopeOf(name), promptOf(seed, 1)));
      return asked.filter((path) => tiers.probe(path, 0, 16).blocks > 0).length;
    });
    expect(held).toEqual([30, 10]);
  });

  it('what is used again stays longer than what is not', async () => {
    const { rig, tiers, settled } = rigOf(20);
    const used = pathOf(alice, promptOf(1, 5));
    for (let seed = 1; seed < 20; seed++) {
      rig.evict(tiers, rig.compute(tiers, pathOf(alice, promptOf(seed, 5))));
      await settled();
      expect(await loadAll(tiers, used, BLOCK)).toBe(5);
    }
  });

  it('of what was loaded, too, the tail leaves before the head', async () => {
    const { rig, tiers, settled } = rigOf(20);
    const leave = async (seed: number) => {
      rig.evict(tiers, rig.compute(tiers, pathOf(alice, promptOf(seed, 8))));
      await settled();
    };
    await leave(1);
    await leave(2);
    expect(await loadAll(tiers, pathOf(alice, promptOf(1, 8)), BLOCK)).toBe(8);
    await leave(3);
    await leave(4);
    expect([1, 2].map((seed) => tiers.probe(pathOf(alice, promptOf(seed, 8)), 0, 128).blocks)).toEqual([4, 0]);
  });

  it('nothing is left of the tree once nothing is held', async () => {
    const { rig, tiers, settled, clock } = rigOf(0);
    const path = pathOf(alice, promptOf(1, 50));
    rig.evict(tiers, rig.compute(tiers, path));
    await settled();
    expect(tiers.probe(path, 0, 800).blocks).toBe(0);
    clock.nowMs += 3_600_000;
    tiers.probe(pathOf(scopeOf('bob'), promptOf(2, 1)), 0, 16);
    expect(tiers.status().namespaces).toBe(1); // alice and her key are gone
  });

  it('a namespace that still has blocks here keeps its key', async () => {
    const { rig, tiers, settled, clock } = rigOf(10);
    const path = pathOf(alice, promptOf(1, 5));
    rig.evict(tiers, rig.compute(tiers, path));
    await settled();
    clock.nowMs += 3_600_000;
    tiers.probe(pathOf(scopeOf('bob'), promptOf(2, 1)), 0, 16);
    expect(tiers.status().namespaces).toBe(2);
    expect(await loadAll(tiers, path, BLOCK)).toBe(5);
  });

  it('a GPU that is busy with other reads costs a later miss, nothing else', async () => {
    const { rig, tiers, settled } = rigOf(100);
    rig.maxReads = 3;
    const path = pathOf(alice, promptOf(1, 10));
    rig.evict(tiers, rig.compute(tiers, path));
    await settled();
    expect(tiers.status()).toMatchObject({ ram: { blocks: 3 }, skippedCopies: 7 });
    expect(tiers.probe(path, 0, 160).blocks).toBe(0); // the tail alone is of no use
  });

  it('what is discarded is not kept, also when its copy is under way, nor what hangs off it', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const path = pathOf(alice, promptOf(1, 6));
    const blocks = rig.compute(tiers, path);
    rig.evict(tiers, blocks.slice(3));
    rig.evict(tiers, blocks.slice(0, 3), 'discarded');
    await settled();
    expect(tiers.status().ram.blocks).toBe(0);
    expect(tiers.probe(path, 0, 96).blocks).toBe(0);
  });
});

describe('who may hit what', () => {
  it('another tenant, another key or another adapter gets nothing', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const tokens = promptOf(1, 4);
    rig.evict(tiers, rig.compute(tiers, pathOf(alice, tokens)));
    await settled();
    expect(tiers.probe(pathOf(scopeOf('bob'), tokens), 0, 64).blocks).toBe(0);
    expect(tiers.probe(pathOf(alice, tokens, { extra: 'lora' }), 0, 64).blocks).toBe(0);
    expect(tiers.probe(pathOf(alice, tokens), 0, 64).blocks).toBe(4);
    const { sealKey } = scopeOf('rotated');
    expect(tiers.probe(pathOf({ namespace: 'alice', sealKey }, tokens), 0, 64).blocks).toBe(0);
    expect(tiers.status().ram.blocks).toBe(0); // the old key's blocks went with it
  });

  it('a public prefix is hit by all, each tenant’s continuation by itself alone', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const publicScope = scopeOf('operator');
    const [a, b] = [promptOf(1, 6), promptOf(1, 6)];
    b.set(promptOf(9, 3), 48);
    const over = { publicScope, publicBlocks: 3 };
    const bob = scopeOf('bob');
    rig.evict(tiers, rig.compute(tiers, pathOf(alice, a, over)));
    await settled();
    expect(tiers.probe(pathOf(bob, a, over), 0, 96).blocks).toBe(3);
    expect(tiers.probe(pathOf(bob, b, over), 0, 96).blocks).toBe(3);
    expect(tiers.probe(pathOf(alice, a, over), 0, 96).blocks).toBe(6);
    expect(tiers.probe(pathOf(alice, a), 0, 96).blocks).toBe(0); // not public: all of it would be her own
    expect(await loadAll(tiers, pathOf(alice, a, over), BLOCK)).toBe(6);
    expect(await loadAll(tiers, pathOf(bob, a, over), BLOCK)).toBe(3);
  });

  it('a destroyed namespace is forgotten, also what was on its way', async () => {
    const { rig, tiers, settled } = rigOf(100);
    const path = pathOf(alice, promptOf(1, 4));
    const kept = rig.compute(tiers, path);
    rig.evict(tiers, kept.slice(2));
    tiers.destroyNamespace('alice');
    rig.evict(tiers, kept.slice(0, 2)); // the block manager may still give them up
    await settled();
    expect(tiers.status()).toMatchObject({ ram: { blocks: 0 }, namespaces: 0 });
    expect(tiers.probe(path, 0, 64).blocks).toBe(0);
    tiers.destroyNamespace('never seen');
  });

  it('blocks of a namespace that was never probed are not kept', async () => {
    const { rig, tiers, settled } = rigOf(100);
    rig.writeBlock(7, new Uint8Array(BLOCK));
    tiers.stored(7, -1, 'stranger', '', promptOf(1, 1));
    tiers.removed(7, 'evicted');
    await settled();
    expect(tiers.status()).toMatchObject({ ram: { blocks: 0 }, namespaces: 0 });
  });
});

it('an aborted load ends at once', async () => {
  const { rig, tiers, settled } = rigOf(100);
  const path = pathOf(alice, promptOf(1, 4));
  rig.evict(tiers, rig.compute(tiers, path));
  await settled();
  expect(await tiers.load(path, 0, 4, AbortSignal.abort())).toMatchObject({ blocks: [] });
  const abort = new AbortController();
  const loading = tiers.load(path, 0, 4, abort.signal);
  abort.abort();
  expect((await loading).blocks.length).toBeLessThan(4);
  expect(tiers.status().misses).toBe(0);
});
