import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { request } from '../test/support/engineHarness.ts';
import { type Admission, BlockManager, type BlockManagerOptions, type BlockTable } from './blockManager.ts';
import { MAX_IDLE_ACCOUNTS } from './cacheStatistics.ts';
import { LruEviction } from './eviction/lru.ts';
import { MultiTenantEviction } from './eviction/multiTenant.ts';
import type { BlockFacts } from './eviction/policy.ts';
import { MAX_IDLE_ACCOUNTS as MAX_IDLE_SHARES } from './eviction/tenantShares.ts';
import { Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';

const text = (length: number, own = 0) => Int32Array.from({ length }, (_, i) => (i < 200 - own ? i : 1000 * own + i));

function admit(blocks: BlockManager, tokens: Int32Array, over: Partial<Admission> = {}): BlockTable | null {
  return blocks.admit({
    scope: 'scope',
    tokens,
    positions: tokens.length,
    maxCached: tokens.length - 1,
    capacityPositions: tokens.length + 64,
    headroomBlocks: 0,
    ...over,
  });
}

/** Admits, computes all of it, publishes. */
function run(
  blocks: BlockManager,
  tokens: Int32Array,
  scope: string | null = 'scope',
  over: Partial<Admission> = {},
): BlockTable {
  const table = admit(blocks, tokens, { scope, ...over })!;
  blocks.publish(table, tokens, tokens.length);
  return table;
}

describe('block manager', () => {
  it('shares full blocks of equal prefixes, and only those', () => {
    const blocks = new BlockManager(20);
    const first = run(blocks, text(40));
    expect(blocks.cachedPrefix('scope', text(100), 100)).toBe(32);
    const second = admit(blocks, text(60))!;
    expect([...second.view().subarray(0, 2)]).toEqual([...first.view().subarray(0, 2)]);
    expect(second.view()[2]).not.toBe(first.view()[2]);
    expect(blocks.freeBlocks).toBe(20 - 3 - 2);
    blocks.checkInvariants([first, second]);
  });

  it('finds nothing where one token of the first block differs, nor in another namespace', () => {
    const blocks = new BlockManager(20);
    run(blocks, text(40));
    const other = text(40);
    other[3] = 77;
    expect(blocks.cachedPrefix('scope', other, 40)).toBe(0);
    expect(blocks.cachedPrefix('other', text(40), 40)).toBe(0);
    expect(blocks.cachedPrefix(null, text(40), 40)).toBe(0);
  });

  it('tells apart tokens that agree in 16 bits', () => {
    const blocks = new BlockManager(20);
    run(blocks, new Int32Array(32).fill(5));
    expect(blocks.cachedPrefix('scope', new Int32Array(32).fill(5 + 0x10000), 32)).toBe(0);
  });

  it('leaves a token to compute: a prompt of whole blocks hits all but the last', () => {
    const blocks = new BlockManager(20);
    run(blocks, text(48));
    expect(admit(blocks, text(48))!.published).toBe(2);
  });

  it('neither reads nor writes without a scope', () => {
    const blocks = new BlockManager(20);
    const table = run(blocks, text(48), null);
    blocks.release(table);
    expect(blocks.freeBlocks).toBe(20);
  });

  it('goes on with the block of whoever computed it first, and frees its own copy', () => {
    const blocks = new BlockManager(20);
    const first = admit(blocks, text(40))!;
    const second = admit(blocks, text(40))!;
    blocks.publish(first, text(40), 40);
    expect(blocks.freeBlocks).toBe(14);
    blocks.publish(second, text(40), 40);
    expect([...second.view().subarray(0, 2)]).toEqual([...first.view().subarray(0, 2)]);
    expect(blocks.freeBlocks).toBe(16);
    blocks.checkInvariants([first, second]);
    blocks.release(first);
    blocks.checkInvariants([second]);
    expect(blocks.cachedBlocks).toBe(0);
    blocks.release(second);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([18, 2]);
    blocks.checkInvariants([]);
  });

  it('evicts tails before heads, the least recently used first, never what is in use', () => {
    const blocks = new BlockManager(8);
    const old = run(blocks, text(48));
    blocks.release(old);
    const recent = run(
      blocks,
      text(32, 1).map((token) => token + 5000),
    );
    blocks.release(recent);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([3, 5]);
    const used = admit(blocks, text(17))!;
    expect(used.published).toBe(1);
    const filler = admit(
      blocks,
      text(48).map((token) => token + 9000),
      { scope: null },
    )!;
    // 3 were free; 1 + 3 were needed: the third block of the old text went.
    expect(blocks.evictions).toBe(1);
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(32);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(32);
    blocks.checkInvariants([used, filler]);
    expect(blocks.grow(filler, 64)).toBe(true);
    // The old text's second block went before the recent text's.
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(16);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(32);
    expect(blocks.grow(filler, 96)).toBe(true);
    expect(blocks.cachedPrefix('scope', recentText(), 32)).toBe(0);
    expect(blocks.grow(filler, 112)).toBe(false);
    expect(filler.length).toBe(6);
    expect(blocks.cachedPrefix('scope', text(48), 48)).toBe(16);
    blocks.checkInvariants([used, filler]);
  });
  const recentText = () => text(32, 1).map((token) => token + 5000);

  it('counts the hits that an admission would take from the evictable ones', () => {
    const blocks = new BlockManager(4);
    blocks.release(run(blocks, text(48)));
    // 4 available, of which 2 would be hit and 1 taken: 1 is left.
    expect(admit(blocks, text(48), { headroomBlocks: 2 })).toBeNull();
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([1, 3]);
    const table = admit(blocks, text(48), { headroomBlocks: 1 })!;
    expect(table.published).toBe(2);
    expect(
      admit(
        blocks,
        text(33, 9).map((token) => token + 7000),
      ),
    ).toBeNull();
    blocks.checkInvariants([table]);
  });

  it('discards what only it uses: the next request does not find it', () => {
    const blocks = new BlockManager(20);
    const healthy = run(blocks, text(20));
    const tainted = run(blocks, text(64));
    const below = run(blocks, text(96));
    blocks.release(below);
    expect(blocks.cachedPrefix('scope', text(96), 96)).toBe(96);
    blocks.discard(tainted);
    blocks.checkInvariants([healthy]);
    expect(blocks.cachedPrefix('scope', text(96), 96)).toBe(16);
    blocks.release(healthy);
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([19, 1]);
  });

  it('keeps its books through any sequence of operations', () => {
    const operation = fc.tuple(fc.nat(5), fc.nat(1_000), fc.nat(100), fc.nat(2));
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 24 }), fc.array(operation, { maxLength: 120 }), (capacity, operations) => {
        const blocks = new BlockManager(capacity);
        const live: { table: BlockTable; tokens: Int32Array; length: number }[] = [];
        for (const [what, which, size, own] of operations) {
          const one = live[which % Math.max(1, live.length)];
          if (what <= 1) {
            const tokens = Int32Array.from({ length: 200 }, (_, i) => (i < 20 + 16 * own ? i : i + 1000 * own));
            const length = 1 + size;
            const before = [blocks.freeBlocks, blocks.cachedBlocks];
            const table = blocks.admit({
              scope: own === 2 && size % 4 === 0 ? null : 'scope',
              tokens,
              positions: length,
              maxCached: length - 1,
              capacityPositions: 200,
              headroomBlocks: which % 3,
            });
            if (table) live.push({ table, tokens, length });
            else expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual(before);
          } else if (one && what === 2) {
            const length = Math.min(200, one.length + size);
            if (blocks.grow(one.table, length)) one.length = length;
          } else if (one && what === 3) {
            blocks.publish(one.table, one.tokens, Math.min(one.length, one.table.published * 16 + size));
          } else if (one) {
            if (what === 4 || size % 8 > 0) blocks.release(one.table);
            else blocks.discard(one.table);
            live.splice(live.indexOf(one), 1);
          }
          blocks.checkInvariants(live.map(({ table }) => table));
        }
        for (const { table } of live) blocks.release(table);
        expect(blocks.availableBlocks).toBe(capacity);
      }),
      { numRuns: 400 },
    );
  });
});

interface Copy {
  from: number;
  to: number;
  tokens: number;
}

/** A manager that copies, and what it copied. */
function copying(capacityBlocks: number, options: BlockManagerOptions = {}): { blocks: BlockManager; copies: Copy[] } {
  const copies: Copy[] = [];
  const copyBlock = (from: number, to: number, tokens: number) => void copies.push({ from, to, tokens });
  return { blocks: new BlockManager(capacityBlocks, undefined, { copyBlock, ...options }), copies };
}

describe('copy-on-write', () => {
  it('goes on in a copy of the last, partly filled block of a sequence that ended', () => {
    const { blocks, copies } = copying(20);
    const first = run(blocks, text(40));
    const last = first.blocks[2]!;
    blocks.release(first);
    expect(blocks.cachedBlocks).toBe(3);
    const second = admit(blocks, text(60))!;
    expect(copies).toEqual([{ from: last, to: second.blocks[2], tokens: 8 }]);
    expect([second.published, second.cachedPositions]).toEqual([2, 40]);
    blocks.checkInvariants([second]);
    // Once the whole block is there, what held its beginning is of no more use.
    blocks.publish(second, text(60), 60);
    expect(blocks.cachedBlocks).toBe(0);
    blocks.checkInvariants([second]);
  });

  it('copies what agrees of a full block that then differs', () => {
    const { blocks, copies } = copying(20);
    const first = run(blocks, text(48));
    const other = text(48);
    other[41] = 7;
    const second = admit(blocks, other)!;
    expect(copies).toEqual([{ from: first.blocks[2], to: second.blocks[2], tokens: 9 }]);
    expect(second.cachedPositions).toBe(41);
  });

  it('leaves a token to compute, and stays within what may come from the cache', () => {
    const { blocks } = copying(20);
    blocks.release(run(blocks, text(40)));
    expect(admit(blocks, text(40))!.cachedPositions).toBe(39);
    expect(admit(blocks, text(40), { maxCached: 34 })!.cachedPositions).toBe(34);
    expect(admit(blocks, text(40), { maxCached: 0 })!.cachedPositions).toBe(0);
    expect(admit(blocks, text(40), { scope: 'other' })!.cachedPositions).toBe(0);
    expect(admit(blocks, text(40), { extra: 'adapter' })!.cachedPositions).toBe(0);
  });

  it('lets the choices of a request pay their prompt once, to the last token', () => {
    const { blocks, copies } = copying(20);
    const first = run(blocks, text(40));
    const others = [admit(blocks, text(40))!, admit(blocks, text(40))!];
    expect(copies.map(({ from, tokens }) => [from, tokens])).toEqual([
      [first.blocks[2], 7],
      [first.blocks[2], 7],
    ]);
    // The first goes on in its own block.
    const longer = text(64);
    blocks.grow(first, 50);
    blocks.publish(first, longer, 50);
    blocks.checkInvariants([first, ...others]);
    expect(first.published).toBe(3);
  });

  it('keeps the source until it has been copied, and does without where it is needed itself', () => {
    const { blocks, copies } = copying(3);
    blocks.release(run(blocks, text(40)));
    // All three are cached: the two full ones are used, the third would have to be both source and copy.
    const tight = admit(blocks, text(45))!;
    expect([copies.length, tight.cachedPositions]).toEqual([0, 32]);
    blocks.release(tight);
    const four = copying(4);
    four.blocks.release(run(four.blocks, text(40)));
    const table = admit(four.blocks, text(60))!;
    expect(four.copies).toEqual([{ from: 2, to: 3, tokens: 8 }]);
    four.blocks.checkInvariants([table]);
  });

  it('forgets what a sequence was copied from when its KV is not to be trusted', () => {
    const { blocks } = copying(20);
    blocks.release(run(blocks, text(10)));
    const tainted = admit(blocks, text(14))!;
    expect(tainted.cachedPositions).toBe(10);
    blocks.discard(tainted);
    expect([blocks.freeBlocks, admit(blocks, text(14))!.cachedPositions]).toEqual([20, 0]);
  });

  it('keeps no partial block where nothing can copy it', () => {
    const blocks = new BlockManager(20);
    blocks.release(run(blocks, text(40)));
    expect([blocks.freeBlocks, blocks.cachedBlocks]).toEqual([18, 2]);
  });
});

describe('public prefixes', () => {
  it('are computed once for all tenants, who see nothing of one another', () => {
    const { blocks } = copying(30);
    blocks.publicPrefixes.declare('system', text(40));
    const first = run(blocks, text(80), 'a');
    expect(blocks.status(9).accounts).toMatchObject([
      { account: 'a', inUse: 3 },
      { account: 'public', inUse: 2 },
    ]);
    const second = admit(blocks, text(80), { scope: 'b' })!;
    expect([...second.view().subarray(0, 2)]).toEqual([...first.view().subarray(0, 2)]);
    // The third block begins with declared tokens, but what follows them is the tenant's.
    expect(second.cachedPositions).toBe(32);
    const own = admit(blocks, text(80), { scope: 'a' })!;
    expect(own.cachedPositions).toBe(79);
    blocks.checkInvariants([first, second, own]);
  });

  it('that are withdrawn answer nobody, and age out', () => {
    const { blocks } = copying(8);
    blocks.publicPrefixes.declare('system', text(32));
    blocks.release(run(blocks, text(48), 'a'));
    blocks.publicPrefixes.withdraw('system');
    expect(blocks.cachedPrefix('a', text(48), 48)).toBe(0);
    expect(blocks.cachedPrefix('b', text(48), 48)).toBe(0);
    const all = run(blocks, text(128), 'b');
    expect([blocks.cachedBlocks, blocks.evictions]).toEqual([0, 3]);
    blocks.checkInvariants([all]);
  });

  it('are kept apart by what else their KV depends on', () => {
    const { blocks } = copying(30);
    blocks.publicPrefixes.declare('system', text(32));
    run(blocks, text(48), 'a', { extra: 'adapter' });
    expect(blocks.cachedPrefix('b', text(48), 48)).toBe(0);
    expect(blocks.cachedPrefix('b', text(48), 48, 'adapter')).toBe(32);
  });
});

describe('what the block manager tells', () => {
  it('policies hear whose a block is, what it continues and what its reuse saves', () => {
    const facts: (BlockFacts & { block: number })[] = [];
    const reused: [number, number][] = [];
    const policy = new LruEviction(20);
    const { admit: enter, reuse } = policy;
    policy.admit = (block, told) => {
      facts.push({ block, ...told });
      enter.call(policy, block, told);
    };
    policy.reuse = (block: number, ...fresh: number[]) => {
      reused.push([block, fresh[0]!]);
      reuse.call(policy, block);
    };
    const blocks = new BlockManager(20, policy, { copyBlock: () => {} });
    blocks.publicPrefixes.declare('system', text(16));
    const account = { name: 'acme', weight: 2, floorShare: 0.1 };
    blocks.release(run(blocks, text(40), 'a', { account, retention: 80 }));
    expect(facts).toMatchObject([
      { block: 0, account: 'public', depth: 0, parent: -1, freshBlocks: 3, partial: false, priority: 80 },
      { block: 1, account: 'acme', depth: 1, parent: 0, freshBlocks: 3, partial: false, priority: 80 },
      { block: 2, account: 'acme', depth: 2, parent: 1, freshBlocks: 3, partial: true, priority: 80 },
    ]);
    expect(new Set(facts.map(({ digest }) => digest)).size).toBe(3);
    admit(blocks, text(64), { scope: 'a', account });
    expect(reused).toEqual([
      [0, 2],
      [1, 2],
      [2, 2],
    ]);
  });

  it('the listener hears of full blocks alone, before they can be written again', () => {
    const events: string[] = [];
    const blocks = new BlockManager(4, undefined, {
      copyBlock: () => {},
      listener: {
        stored: (block, parent, namespace, extra, tokens) =>
          events.push(`+${block} after ${parent} ${namespace}/${extra} ${tokens[0]}..${tokens.at(-1)}`),
        removed: (block, why) => events.push(`-${block} ${why}`),
      },
    });
    blocks.publicPrefixes.declare('system', text(16));
    const first = run(blocks, text(40), 'a', { extra: 'x' });
    blocks.release(first);
    expect(events.splice(0)).toEqual(['+0 after -1 public/x 0..15', '+1 after 0 a/x 16..31']);
    const other = run(
      blocks,
      text(40).map((token) => token + 500),
      'b',
    );
    expect(events.splice(0)).toEqual(['-1 evicted', '+3 after -1 b/ 500..515', '+2 after 3 b/ 516..531']);
    blocks.discard(other);
    expect(events).toEqual(['-2 discarded', '-3 discarded']);
  });

  it('status tells who holds what, who evicted whom, and what is wasted', () => {
    let nowMs = 1_000;
    const { blocks } = copying(6, { clock: () => nowMs });
    const own = (scope: string, tokens: Int32Array) => run(blocks, tokens, scope);
    blocks.release(own('a', text(64)));
    nowMs += 250;
    const again = admit(blocks, text(64), { scope: 'a' })!;
    expect(blocks.status(9)).toMatchObject({
      accounts: [{ account: 'a', inUse: 4, cached: 1, askedTokens: 128, hitTokens: 63, copiedTokens: 15 }],
      reuseGapMs: { count: 4, sum: 1_000 },
      wastedPositions: 0,
    });
    blocks.release(again);
    nowMs += 500;
    const b = own('b', text(90, 1));
    expect(blocks.status(9)).toMatchObject({
      evictions: 4,
      evictionPairs: [{ evicting: 'b', evicted: 'a', blocks: 4 }],
      accounts: [
        { account: 'b', inUse: 6, evictingBlocks: 4, evictedBlocks: 0 },
        { account: 'a', inUse: 0, cached: 0, evictingBlocks: 0, evictedBlocks: 4 },
      ],
      lifetimeMs: { count: 4, sum: 4 * 750 },
      wastedPositions: 6,
    });
    blocks.checkInvariants([b]);
  });
});

it('remembers a bounded number of tenants that hold nothing any more', () => {
  const blocks = new BlockManager(8);
  // Each leaves one full block: seven are kept, the eighth is free for a last, partly filled one.
  for (let i = 0; i < 1_000; i++) blocks.release(run(blocks, text(20, 1), `tenant-${i}`));
  expect(blocks.status(10_000).accounts.length).toBe(7 + MAX_IDLE_ACCOUNTS + 1);
  expect(blocks.status(10_000).namespaces).toBe(7);
  blocks.checkInvariants([]);
});

it('one manager serves two schedulers: each finds what the other computed', () => {
  const { blocks } = copying(24);
  const limits = { maxRunning: 4, maxStepTokens: 64, maxStepLogits: 8 };
  const [one, two] = [new Scheduler(blocks, limits), new Scheduler(blocks, limits)];
  const submit = (scheduler: Scheduler, id: string) => {
    const sequence = new Sequence(request(id, [...text(40)]), 0);
    scheduler.queue.push(sequence);
    scheduler.plan(0);
    return sequence;
  };
  const compute = (sequence: Sequence) => {
    sequence.computed = sequence.length;
    blocks.publish(sequence.table!, sequence.tokens, sequence.computed);
  };
  const first = submit(one, 'first');
  compute(first);
  const second = submit(two, 'second');
  expect(second.computed).toBe(39);
  expect([...second.table!.view().subarray(0, 2)]).toEqual([...first.table!.view().subarray(0, 2)]);
  blocks.checkInvariants([first.table!, second.table!]);
  one.finish(first);
  blocks.checkInvariants([second.table!]);
  compute(second);
  two.finish(second);
  blocks.checkInvariants([]);
  expect(blocks.availableBlocks).toBe(24);
});

it('weight and floor count also for who waited for its first block while many others came and went', () => {
  const lru = (capacityBlocks: number) => new LruEviction(capacityBlocks);
  const policy = new MultiTenantEviction(20, 'test', { inner: lru(20), makeAlone: lru, lendingMargin: 0.1 });
  const blocks = new BlockManager(20, policy);
  const account = { name: 'slow', weight: 4, floorShare: 0.5 };
  const table = admit(blocks, text(40), { account })!;
  for (let i = 0; i <= MAX_IDLE_SHARES; i++)
    blocks.release(admit(blocks, text(20), { scope: `s${i}`, account: { name: `t${i}`, weight: 1, floorShare: 0 } })!);
  blocks.publish(table, text(40), 40);
  expect([...policy.tenants].find(({ name }) => name === 'slow')).toMatchObject(account);
});
