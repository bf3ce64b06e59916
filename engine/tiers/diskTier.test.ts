// The disk tier over real folders: restarts, other processes, and everything that can be wrong with a folder. Each of those is a miss.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadAll, pathOf, promptOf, scopeOf, TierRig, until } from '../../test/support/tierRig.ts';
import { DiskTier } from './diskTier.ts';
import type { DiskStatus, KvTiers } from './port.ts';
import { recordBytes } from './record.ts';
import { RecordFolder } from './recordFolder.ts';
import { type TierOptions, TierStore } from './tierStore.ts';

const BLOCK = 4096;
const RECORD = Math.ceil(recordBytes(BLOCK) / 4096) * 4096;
const alice = scopeOf('alice');

let parent: string;
let folder: string;
const open: TierStore[] = [];
beforeEach(async () => {
  parent = await fs.mkdtemp(join(tmpdir(), 'hearth-tiers-'));
  folder = join(parent, 'kv');
});
afterEach(async () => {
  for (const store of open.splice(0)) await store.close(0);
  await fs.rm(parent, { recursive: true });
});

interface Pool {
  rig: TierRig;
  store: TierStore;
  tiers: KvTiers;
  notices: string[];
  disk: () => DiskStatus;
  /** Computes a prompt, gives its blocks up, and waits until they are on disk. */
  leave: (seed: number, blocks: number) => Promise<void>;
  load: (seed: number, blocks: number) => Promise<number>;
}

async function poolOf(over: Partial<TierOptions> & { fingerprint?: string; clock?: { nowMs: number } } = {}) {
  const { fingerprint = 'f', clock, ...options } = over;
  const rig = new TierRig(BLOCK);
  const notices: string[] = [];
  const store = new TierStore(
    { ramBytes: 0, diskFolder: folder, diskBytes: 1e9, writeThrough: true, ...options },
    () => clock?.nowMs ?? Date.now(),
    (line) => notices.push(line),
  );
  open.push(store);
  await store.start();
  await store.look();
  const tiers = store.cacheFor(rig, fingerprint);
  const path = (seed: number, blocks: number) => pathOf(alice, promptOf(seed, blocks));
  const pool: Pool = {
    ...{ rig, store, tiers, notices },
    disk: () => tiers.status().disk!,
    leave: async (seed, blocks) => {
      rig.evict(tiers, rig.compute(tiers, path(seed, blocks)));
      await until(() => tiers.status().waitingCopies === 0 && pool.disk().queuedWrites === 0, 'written');
    },
    load: async (seed, blocks) => {
      const { blocks: hit } = tiers.probe(path(seed, blocks), 0, blocks * 16);
      const loaded = await loadAll(tiers, path(seed, blocks), BLOCK);
      expect(loaded).toBeLessThanOrEqual(hit);
      return loaded;
    },
  };
  return pool;
}

/** Paths of all records, in the folder's own order. */
async function records(): Promise<string[]> {
  const names = await fs.readdir(folder, { recursive: true });
  return names.filter((name) => name.endsWith('.kv')).map((name) => join(folder, name));
}

describe('blocks on disk', () => {
  it('are found after a restart, with the same bytes', async () => {
    await (await poolOf()).leave(1, 20);
    const again = await poolOf();
    expect(await again.load(1, 20)).toBe(20);
    expect(again.disk()).toMatchObject({ blocks: 20, bytes: 20 * RECORD, hits: 20 });
    expect(again.tiers.status().misses).toBe(0);
  });

  it('come to RAM when they are loaded, and are read once', async () => {
    await (await poolOf()).leave(1, 6);
    const again = await poolOf({ ramBytes: 1e6 });
    expect([await again.load(1, 6), await again.load(1, 6)]).toEqual([6, 6]);
    expect(again.disk().hits).toBe(6);
    expect(again.tiers.status().ram.hits).toBe(6);
  });

  it('that a load had asked for when it was given up are found in RAM by the next', async () => {
    await (await poolOf()).leave(1, 3);
    const again = await poolOf({ ramBytes: 1e6 });
    const abort = new AbortController();
    const loading = again.tiers.load(pathOf(alice, promptOf(1, 3)), 0, 3, abort.signal);
    abort.abort();
    expect((await loading).blocks).toEqual([]);
    await until(() => again.tiers.status().ram.blocks === 3, 'read nevertheless');
    expect(await again.load(1, 3)).toBe(3);
    expect(again.disk().hits).toBe(3);
    expect(again.tiers.status().ram).toMatchObject({ blocks: 3, hits: 3 });
  });

  it('are written when they leave RAM, if not before', async () => {
    const pool = await poolOf({ ramBytes: 5 * (BLOCK + 1024), writeThrough: false });
    await pool.leave(1, 5);
    expect(await records()).toHaveLength(0);
    await pool.leave(2, 5);
    expect(await records()).toHaveLength(5);
    expect(await pool.load(1, 5)).toBe(5); // and the others make room
    await until(() => pool.disk().queuedWrites === 0, 'written');
    expect(await pool.load(2, 5)).toBe(5);
  });

  it('are written through while the GPU still has them', async () => {
    const pool = await poolOf({ ramBytes: 1e6 });
    pool.rig.compute(pool.tiers, pathOf(alice, promptOf(1, 9)));
    await until(() => pool.disk().stored === 9, 'written through');
    expect(await (await poolOf()).load(1, 9)).toBe(9);
  });

  it('are hit by another process a look later', async () => {
    const [a, b] = [await poolOf(), await poolOf()];
    await a.leave(1, 8);
    await until(() => b.disk().blocks === 8, 'b sees what a wrote'); // by its own looks, once a second
    expect(await b.load(1, 8)).toBe(8);
    await b.leave(1, 8);
    expect(b.disk().stored).toBe(0); // there already
  });

  it('are seen also in shards that were listed before', async () => {
    const [a, b] = [await poolOf(), await poolOf()];
    for (const seed of [1, 2]) {
      await a.leave(seed, 200);
      await new Promise((resolve) => setTimeout(resolve, 60)); // past the tick of the file system's clock
      await b.store.look();
      await b.store.look();
      expect(b.disk().blocks).toBe(200 * seed);
    }
    for (const path of (await records()).slice(0, 150)) await fs.unlink(path);
    await b.store.look();
    expect(b.disk().blocks).toBe(250);
  });

  it('are another’s with another fingerprint, tenant or key, and say nothing', async () => {
    await (await poolOf()).leave(1, 4);
    const other = await poolOf({ fingerprint: 'g' });
    expect(await other.load(1, 4)).toBe(0);
    const pool = await poolOf();
    const bob = pathOf(scopeOf('bob'), promptOf(1, 4));
    expect(await loadAll(pool.tiers, bob, BLOCK)).toBe(0);
    const stolen = pathOf({ namespace: 'alice', sealKey: scopeOf('bob').sealKey }, promptOf(1, 4));
    expect(await loadAll(pool.tiers, stolen, BLOCK)).toBe(0);
  });

  it('are never of a namespace without a key', async () => {
    const pool = await poolOf();
    const path = pathOf({ namespace: 'local', sealKey: null }, promptOf(1, 3));
    pool.rig.evict(pool.tiers, pool.rig.compute(pool.tiers, path));
    await until(() => pool.tiers.status().waitingCopies === 0, 'copied');
    expect(await records()).toHaveLength(0);
  });

  it('that hang off a public prefix without a key are found again, behind that prefix', async () => {
    const publicScope = { namespace: 'public', sealKey: null };
    const path = pathOf(alice, promptOf(1, 6), { publicScope, publicBlocks: 2 });
    const pool = await poolOf();
    pool.rig.evict(pool.tiers, pool.rig.compute(pool.tiers, path));
    await until(() => pool.disk().stored === 4, 'hers written');
    const again = await poolOf();
    expect(again.tiers.probe(path, 0, 96).blocks).toBe(0); // the prefix itself is computed anew
    expect(again.tiers.probe(path, 2, 96).blocks).toBe(4);
    expect(await loadAll(again.tiers, path, BLOCK, 2)).toBe(4);
  });

  it('stay within the bound under churn, oldest first, also across a restart', async () => {
    const diskBytes = 40 * RECORD;
    const first = await poolOf({ diskBytes });
    for (let seed = 0; seed < 20; seed++) {
      await first.leave(seed, 5);
      expect((await records()).length).toBeLessThanOrEqual(40);
    }
    expect(first.disk()).toMatchObject({ blocks: 40, evicted: 60 });
    expect([await first.load(11, 5), await first.load(12, 5)]).toEqual([0, 5]);
    // Use is what counts, and files tell it to the next process.
    for (const [i, path] of (await records()).entries()) await fs.utimes(path, 1e9 + i, 1e9 + i);
    const used = new Set((await records()).slice(-10));
    const second = await poolOf({ diskBytes });
    for (let seed = 100; seed < 106; seed++) await second.leave(seed, 5);
    const left = new Set(await records());
    expect([...used].filter((path) => !left.has(path))).toEqual([]);
    expect(left.size).toBe(40);
  });

  it('are written once, however often they are offered meanwhile', async () => {
    const options = { folder, capacityBytes: 1e9, reservedBytes: 0, now: Date.now, onNotice: () => {} };
    const disk = new DiskTier(options);
    await disk.start();
    let seals = 0;
    const seal = () => {
      seals += 1;
      return [Buffer.alloc(8)];
    };
    for (let i = 0; i < 5; i++) disk.write('ab'.repeat(16), 8, 'alice', seal);
    await disk.written();
    expect([seals, disk.status().stored]).toEqual([1, 1]);
    await disk.close(0);
  });

  it.each(['written through', 'loaded'])('of a path that was %s the tail leaves before the head', async (how) => {
    const pool = await poolOf({ diskBytes: 12 * RECORD });
    const path = pathOf(alice, promptOf(1, 8));
    const blocks = pool.rig.compute(pool.tiers, path);
    await until(() => pool.tiers.status().waitingCopies === 0 && pool.disk().queuedWrites === 0, 'written');
    if (how === 'loaded') expect(await pool.load(1, 8)).toBe(8);
    else pool.rig.evict(pool.tiers, blocks);
    await until(() => pool.tiers.status().waitingCopies === 0, 'copied');
    await pool.leave(2, 6);
    expect(pool.disk().blocks).toBe(12);
    expect(await pool.load(1, 8)).toBe(6);
  });

  it('are no more than can be listed, whatever their bytes; what is too much leaves oldest first', async () => {
    const clock = { nowMs: Date.now() - 1e6 };
    const options = { folder, capacityBytes: 1e9, reservedBytes: 0, now: () => clock.nowMs, onNotice: () => {} };
    const id = (i: number) => createHash('sha256').update(`${i}`).digest('hex').slice(0, 32);
    const first = new DiskTier({ ...options, maxRecords: 50 });
    await first.start();
    for (let i = 0; i < 80; i++) {
      clock.nowMs += 1000;
      first.write(id(i), 8, 'alice', () => [Buffer.alloc(8)]);
      await first.written();
    }
    await first.look();
    await first.close(0);
    expect((await records()).length).toBe(50);
    expect([first.has(id(29)), first.has(id(30))]).toEqual([false, true]);
    const again = new DiskTier({ ...options, maxRecords: 40 });
    await again.start();
    await again.close(0);
    expect((await records()).length).toBe(40);
  });

  it('a tenant who floods the folder takes from himself', async () => {
    const pool = await poolOf({ diskBytes: 30 * RECORD });
    await pool.leave(1, 10); // hers
    const bob = scopeOf('bob');
    for (let seed = 2; seed < 30; seed++) {
      pool.rig.evict(pool.tiers, pool.rig.compute(pool.tiers, pathOf(bob, promptOf(seed, 5))));
      await pool.leave(seed, 0);
    }
    expect(pool.disk().blocks).toBe(30);
    expect(await pool.load(1, 10)).toBe(10);
  });

  it('renew their time when they are used; what another process used is not taken for the oldest', async () => {
    const clock = { nowMs: Date.now() - 600_000 };
    const pool = await poolOf({ diskBytes: 4 * RECORD, clock });
    for (const seed of [1, 2, 3, 4]) {
      clock.nowMs += 1000;
      await pool.leave(seed, 1);
    }
    const past = Date.now() / 1000 - 3600;
    for (const path of await records()) await fs.utimes(path, past, past);
    const other = await poolOf();
    expect(await other.load(1, 1)).toBe(1);
    const freshest = async () => Math.max(...(await Promise.all((await records()).map(timeOf))));
    await expect.poll(freshest).toBeGreaterThan(Date.now() - 60_000);
    clock.nowMs = Date.now();
    await pool.leave(5, 1);
    expect(await Promise.all([1, 2, 3, 4, 5].map((seed) => pool.load(seed, 1)))).toEqual([1, 0, 1, 1, 1]);
  });

  it('leave the file system its reserve', async () => {
    const pool = await poolOf({ diskReservedBytes: 2 ** 60 });
    await pool.leave(1, 3);
    expect(pool.disk()).toMatchObject({ blocks: 0, dropped: 3 });
    expect(await records()).toHaveLength(0);
  });
});

describe('what is wrong in the folder is a miss', () => {
  const damages: [string, (path: string) => Promise<unknown>, Partial<DiskStatus['troubles']>][] = [
    ['a flipped bit', async (path) => flip(path, 2000), { damaged: 1 }],
    ['a flipped bit of the tag', async (path) => flip(path, recordBytes(BLOCK) - 1), { damaged: 1 }],
    ['a truncated file', (path) => fs.truncate(path, 100), { damaged: 1 }],
    ['an empty file', (path) => fs.truncate(path, 0), { damaged: 1 }],
    ['a huge file', (path) => fs.truncate(path, 2 ** 36), { damaged: 1 }],
    [
      'a foreign file of the same size',
      (path) => fs.writeFile(path, Buffer.alloc(recordBytes(BLOCK), 7)),
      { damaged: 1 },
    ],
    ['a deleted file', (path) => fs.unlink(path), { gone: 1 }],
    ['a folder', (path) => fs.unlink(path).then(() => fs.mkdir(path)), { damaged: 1 }],
    [
      'a link to another file',
      (path) => fs.rename(path, `${path}.away`).then(() => fs.symlink(`${path}.away`, path)),
      { damaged: 1 },
    ],
    ['a pipe that nobody writes', (path) => fs.unlink(path).then(() => pipe(path)), { damaged: 1 }],
  ];
  it.each(damages)('%s', async (_what, damage, troubles) => {
    const pool = await poolOf();
    await pool.leave(1, 1);
    const [path = ''] = await records();
    await damage(path);
    expect(await pool.load(1, 1)).toBe(0);
    expect(pool.disk().troubles).toMatchObject(troubles);
    await fs.rm(path, { recursive: true, force: true });
    await pool.leave(1, 1); // and it is written anew
    expect(await pool.load(1, 1)).toBe(1);
  });

  it('records under one another’s names', async () => {
    const pool = await poolOf();
    await pool.leave(1, 8);
    const paths = await records();
    const contents = await Promise.all(paths.map((path) => fs.readFile(path)));
    for (const [i, path] of paths.entries()) await fs.writeFile(path, contents[(i + 1) % 8]!);
    expect(await pool.load(1, 8)).toBe(0);
    expect(pool.disk().troubles.damaged).toBeGreaterThan(0);
  });

  it('a damaged block in the middle: what is before it is good', async () => {
    const pool = await poolOf();
    await pool.leave(1, 5);
    const five = new Set(await records());
    await pool.leave(2, 0);
    const sixth = await poolOf();
    // The record of block 5 is the one that a longer prompt adds; damaged, it leaves the five before it.
    await sixth.leave(1, 5);
    for (const path of await records()) expect(five.has(path)).toBe(true);
    const longer = promptOf(1, 9);
    sixth.rig.evict(sixth.tiers, sixth.rig.compute(sixth.tiers, pathOf(alice, longer)));
    await until(() => sixth.disk().blocks === 9 && sixth.disk().queuedWrites === 0, 'written');
    const added = (await records()).filter((path) => !five.has(path));
    expect(added).toHaveLength(4);
    for (const path of added) await flip(path, 500);
    expect(await sixth.load(1, 9)).toBe(5);
    expect(sixth.tiers.status().misses).toBe(4);
  });

  it('a huge file under a record’s name is removed, and takes no room from others', async () => {
    const pool = await poolOf();
    for (const seed of [1, 2, 3]) await pool.leave(seed, 3);
    const [one] = await records();
    await fs.truncate(one!, 2 ** 40);
    const again = await poolOf();
    const loaded = await Promise.all([1, 2, 3].map((seed) => again.load(seed, 3)));
    expect(loaded.filter((blocks) => blocks === 3).length).toBe(2);
    expect(again.disk()).toMatchObject({ blocks: 8, evicted: 0, troubles: { damaged: 1 } });
    await expect.poll(async () => (await records()).length).toBe(8);
  });

  it('names that are none of ours are left alone and never followed', async () => {
    const pool = await poolOf();
    await pool.leave(1, 1);
    const [path = ''] = await records();
    const shard = join(path, '..');
    const odd = ['../../escape.kv', 'x.kv', `${'0'.repeat(31)}Z.kv`, `${'a'.repeat(32)}.kv.bak`, '-rf', 'ä'.repeat(60)];
    for (const name of odd.slice(1)) await fs.writeFile(join(shard, name), 'mine');
    await fs.symlink('/etc/passwd', join(shard, `${'b'.repeat(32)}.kv`));
    const again = await poolOf({ diskBytes: RECORD });
    expect(again.disk().blocks).toBe(1);
    await again.leave(2, 3);
    expect((await fs.readdir(shard)).filter((name) => odd.includes(name))).toHaveLength(odd.length - 1);
    expect(await fs.readFile('/etc/passwd', 'utf8')).toContain('root');
  });

  it('a link in a shard’s place is not written through', async () => {
    const away = join(parent, 'away');
    await fs.mkdir(away);
    await fs.mkdir(folder);
    for (let shard = 0; shard < 64; shard++) await fs.symlink(away, join(folder, shard.toString(16).padStart(2, '0')));
    const pool = await poolOf();
    await pool.leave(1, 4);
    expect(await fs.readdir(away)).toEqual([]);
    expect(pool.disk().troubles.unwritable).toBeGreaterThan(0);
  });

  it('the folder deleted under us: made anew with the next block', async () => {
    const pool = await poolOf();
    await pool.leave(1, 4);
    await fs.rm(folder, { recursive: true });
    expect(await pool.load(1, 4)).toBe(0);
    await pool.leave(2, 4);
    expect(await pool.load(2, 4)).toBe(4);
    await pool.store.look();
    expect(pool.disk().blocks).toBe(4);
  });

  it('a folder that can’t be: told once, tried again ever more rarely', async () => {
    await fs.writeFile(folder, 'a file in the folder’s place');
    const clock = { nowMs: 1e12 };
    const pool = await poolOf({ clock });
    const states = new Set<string>();
    for (let round = 0; round < 50; round++) {
      await pool.leave(round, 1);
      states.add(pool.disk().state);
      clock.nowMs += 100;
    }
    const { troubles, dropped } = pool.disk();
    expect(troubles.unwritable).toBeLessThan(10);
    expect(dropped).toBeGreaterThan(40);
    expect(states).toContain('backing off');
    expect(pool.notices).toHaveLength(1);
    expect(pool.notices[0]).toContain(folder);
    await fs.unlink(folder);
    clock.nowMs += 600_000;
    await pool.leave(99, 1);
    expect(await pool.load(99, 1)).toBe(1);
    expect(pool.disk().state).toBe('open');
  });

  it('files that a killed writer left are removed, those of a living one are not', async () => {
    const pool = await poolOf();
    await pool.leave(1, 1);
    const shard = join((await records())[0] ?? '', '..');
    const [dead, alive] = [`.${'1'.repeat(16)}.tmp`, `.${'2'.repeat(16)}.tmp`];
    for (const name of [dead, alive]) await fs.writeFile(join(shard, name), 'half');
    await fs.utimes(join(shard, dead), 1e9, 1e9);
    await poolOf();
    const names = await fs.readdir(shard);
    expect([names.includes(dead), names.includes(alive)]).toEqual([false, true]);
  });
});

it('a disk that hangs gives no hits until it answers', async () => {
  await (await poolOf()).leave(1, 3);
  const clock = { nowMs: Date.now() };
  const disk = new DiskTier({ folder, capacityBytes: 1e9, now: () => clock.nowMs, onNotice: () => {} });
  await disk.start();
  const [path = ''] = await records();
  const id = basename(path, '.kv');
  expect([disk.usable, disk.has(id)]).toEqual([true, true]);
  const reading = disk.read(id, recordBytes(BLOCK), 'alice');
  await Promise.resolve();
  clock.nowMs += 10_001;
  expect(disk.usable).toBe(false);
  expect(await reading).not.toBeNull();
  expect(disk.usable).toBe(true);
  await disk.close(0);
});

it('files whose times are to come leave like others', async () => {
  await (await poolOf()).leave(1, 20);
  const clock = { nowMs: Date.now() };
  const pool = await poolOf({ diskBytes: 10 * RECORD, clock });
  for (const path of await records()) await fs.utimes(path, 4e9, 4e9);
  for (let seed = 2; seed < 6; seed++) {
    clock.nowMs += 2000;
    await pool.leave(seed, 5);
    expect((await records()).length).toBeLessThanOrEqual(10);
  }
  expect(await pool.load(5, 5)).toBe(5);
});

it('a record’s time is renewed on the record, never on what a link leads to', async () => {
  const target = join(parent, 'target');
  await fs.writeFile(target, '');
  await fs.utimes(target, 1000, 1000);
  const records = new RecordFolder(folder);
  const id = 'ab'.repeat(16);
  await records.write(id, [Buffer.alloc(8)]);
  const path = join(folder, '2b', `${id}.kv`);
  await fs.rm(path);
  await fs.symlink(target, path);
  await records.touch(id, 2e12);
  expect((await fs.stat(target)).mtimeMs).toBe(1_000_000);
});

it('what waits to be written is written before the end, as far as there is time', async () => {
  const pool = await poolOf();
  const blocks = pool.rig.compute(pool.tiers, pathOf(alice, promptOf(1, 300)));
  pool.rig.evict(pool.tiers, blocks);
  await until(() => pool.tiers.status().waitingCopies === 0, 'copied');
  const waiting = pool.disk().queuedWrites;
  expect(waiting).toBeGreaterThan(0);
  await pool.store.close(10_000);
  expect(await records()).toHaveLength(300);
  expect(pool.disk()).toMatchObject({ state: 'closed', queuedWrites: 0, dropped: 0 });
  pool.rig.evict(pool.tiers, pool.rig.compute(pool.tiers, pathOf(alice, promptOf(2, 3))));
  await until(() => pool.tiers.status().waitingCopies === 0, 'copied');
  expect(pool.disk().dropped).toBe(3); // too late
});

describe('other processes', () => {
  const script = fileURLToPath(new URL('../../test/support/recordWriter.ts', import.meta.url));

  function writer(firstSeed: number, diskBytes: number, blockBytes = 65_536) {
    const args = [script, folder, String(firstSeed), String(diskBytes), '4', String(blockBytes)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const seeds: number[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => seeds.push(Number(line)));
    return { child, seeds, exited: once(child, 'exit') };
  }

  it('kill -9 in the middle of writing leaves a folder that is read, rightly, by the next one', async () => {
    let found = 0;
    for (let round = 0; round < 6; round++) {
      const { child, seeds, exited } = writer(round * 100_000, 1e9);
      await until(() => seeds.length > 3, 'the writer writes');
      await new Promise((resolve) => setTimeout(resolve, 7 * round)); // another moment each time
      child.kill('SIGKILL');
      await exited;
      const store = new TierStore(
        { ramBytes: 0, diskFolder: folder, diskBytes: 1e9, writeThrough: true },
        Date.now,
        () => {},
      );
      open.push(store);
      await store.start();
      await store.look();
      const tiers = store.cacheFor(new TierRig(65_536), 'f');
      for (const seed of seeds) found += await loadAll(tiers, pathOf(alice, promptOf(seed, 4)), 65_536); // throws on wrong bytes
      expect(tiers.status().disk?.troubles).toEqual({ gone: 0, damaged: 0, unreadable: 0, unwritable: 0 });
    }
    expect(found).toBeGreaterThan(20);
  });

  it('that writes and evicts in the same folder: right bytes or a miss, and the bound holds roughly', async () => {
    const diskBytes = 60 * RECORD;
    const pool = await poolOf({ diskBytes });
    const { child, seeds, exited } = writer(0, diskBytes, BLOCK);
    await until(() => seeds.length > 0, 'the other process writes');
    let hits = 0;
    const endMs = Date.now() + 2500;
    for (let seed = 1e6; Date.now() < endMs; seed++) {
      await pool.leave(seed, 4);
      hits += await pool.load(seed, 4);
      for (const theirs of seeds.slice(-3)) hits += await pool.load(theirs, 4);
    }
    child.kill('SIGKILL');
    await exited;
    await pool.store.look();
    expect(hits).toBeGreaterThan(0);
    expect(pool.disk().troubles.damaged).toBe(0);
    expect((await records()).length).toBeLessThanOrEqual(62);
  });
});

async function timeOf(path: string): Promise<number> {
  return (await fs.stat(path)).mtimeMs;
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await fs.readFile(path);
  bytes[at]! ^= 4;
  await fs.writeFile(path, bytes);
}

async function pipe(path: string): Promise<void> {
  const [code] = await once(spawn('mkfifo', [path]), 'exit');
  expect(code).toBe(0);
}
