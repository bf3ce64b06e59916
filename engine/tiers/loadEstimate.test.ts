import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadAll, pathOf, promptOf, scopeOf, TierRig, until } from '../../test/support/tierRig.ts';
import { DiskTier } from './diskTier.ts';
import { LoadEstimate } from './loadEstimate.ts';
import { RamTier } from './ramTier.ts';
import { TieredCache } from './tieredCache.ts';

const MINUTE = 60_000;
const BLOCK_BYTES = 4096;

describe('what loading takes', () => {
  it('is what was assumed before the first load, then what was measured, the last ones most', () => {
    const estimate = new LoadEstimate(2, 0);
    expect(estimate.loadMs(0, 10, 0.1, 0)).toBeCloseTo(21);
    estimate.note(4, 1);
    expect(estimate.loadMs(0, 10, 0.1, 1)).toBeCloseTo(41);
    for (let i = 0; i < 20; i++) estimate.note(1, 1);
    expect(estimate.loadMs(5, 10, 0.1, 1)).toBeCloseTo(11.5, 0);
  });

  it('a slow moment is doubted until a load is tried again, and then it weighs no more', () => {
    const estimate = new LoadEstimate(2, 0);
    for (let i = 0; i < 20; i++) estimate.note(1, 0);
    estimate.note(5_000, 0);
    const computing = 10;
    expect(estimate.loadMs(0, 1, 0, MINUTE)).toBeGreaterThan(computing);
    expect(estimate.loadMs(0, 1, 0, 5 * MINUTE)).toBeLessThan(computing);
    estimate.note(1, 5 * MINUTE);
    expect(estimate.loadMs(0, 1, 0, 5 * MINUTE)).toBeLessThan(computing);
  });

  it('a disk that is always too slow, by whatever factor, costs a load now and then', () => {
    for (const factor of [1.5, 10, 1_000]) {
      const estimate = new LoadEstimate(0, 0);
      let tries = 0;
      for (let nowMs = 0; nowMs < 60 * MINUTE; nowMs += 100) {
        if (estimate.loadMs(0, 1, 0, nowMs) >= 1) continue;
        estimate.note(factor, nowMs);
        tries += 1;
      }
      expect(tries).toBeLessThanOrEqual(Math.ceil((60 * MINUTE) / (30_000 * Math.log2(factor))) + 1);
      expect(tries).toBeGreaterThan(5);
    }
  });

  it('loads from RAM alone leave the doubt about the disk; a clock that is set back adds none', () => {
    const estimate = new LoadEstimate(2, 0);
    estimate.note(5_000, 0);
    estimate.note(null, 10 * MINUTE);
    expect(estimate.loadMs(0, 1, 1, 10 * MINUTE)).toBeLessThan(2);
    expect(estimate.loadMs(1, 0, 1, 10 * MINUTE)).toBe(1);
    expect(estimate.loadMs(0, 1, 0, -MINUTE)).toBe(5_000);
  });
});

describe('what loading from a disk takes', () => {
  /** Reads take `delayMs` more. */
  class SlowDisk extends DiskTier {
    delayMs = 0;

    override async read(id: string, bytes: number, owner: string): Promise<Buffer | null> {
      await new Promise((resolve) => setTimeout(resolve, this.delayMs));
      return super.read(id, bytes, owner);
    }
  }

  it('is learnt also from what came too late, and doubted when nothing was loaded for long', async () => {
    const folder = await fs.mkdtemp(join(tmpdir(), 'hearth-estimate-'));
    const clock = { nowMs: Date.now() };
    const now = () => clock.nowMs;
    const disk = new SlowDisk({ folder, capacityBytes: 1e8, now, onNotice: () => {}, reservedBytes: 0 });
    await disk.start();
    const transfer = new TierRig(BLOCK_BYTES);
    const tiers = new TieredCache({
      ...{ transfer, fingerprint: 'f', ram: new RamTier(0, now), disk, writeThrough: true, now },
    });
    const path = pathOf(scopeOf('alice'), promptOf(1, 4));
    transfer.compute(tiers, path);
    await until(() => tiers.status().waitingCopies === 0, 'copies done');
    await disk.written();
    const estimateMs = () => tiers.probe(path, 0, 64).loadMs;
    for (let i = 0; i < 10; i++) expect(await loadAll(tiers, path, BLOCK_BYTES)).toBe(4);
    const usualMs = estimateMs();

    disk.delayMs = 400;
    const abort = new AbortController();
    const given = tiers.load(path, 0, 4, abort.signal);
    setTimeout(() => abort.abort(), 20);
    expect((await given).blocks).toEqual([]);
    await until(() => estimateMs() > usualMs + 100, 'the late read is counted');

    await until(() => disk.status().hits === 44, 'no read is under way when the clock jumps');
    disk.delayMs = 0;
    clock.nowMs += 600_000;
    expect(estimateMs()).toBeLessThan(usualMs);
    expect(await loadAll(tiers, path, BLOCK_BYTES)).toBe(4);
    expect(estimateMs()).toBeLessThan(usualMs + 100);
    await disk.close(0);
    await fs.rm(folder, { recursive: true });
  });
});
