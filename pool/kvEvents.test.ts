// Whoever applies the events has the exact index, whenever it begins to read and however often it is cut off: shown with the real block
// manager on random histories.
import { describe, expect, it } from 'vitest';
import { BlockManager, type BlockTable, PUBLIC_NAMESPACE } from '../engine/blockManager.ts';
import { BLOCK_TOKENS } from '../engine/modelRunner.ts';
import { KvReplica } from '../test/support/kvReplica.ts';
import { randomOf } from '../test/support/random.ts';
import { BlockFeed } from './blockFeed.ts';
import { PoolError } from './errors.ts';
import { KvEvents } from './kvEvents.ts';
import { blockIds, type KvEvent, scopeKey, scopeName } from './wire/kvEvents.ts';

const CAPACITY = 24;
const NAMESPACES = ['ns-a', 'ns-b'];
const PUBLIC = Int32Array.from({ length: 2 * BLOCK_TOKENS }, (_, i) => 900 + i);

class Cache {
  readonly feed = new BlockFeed();
  readonly blocks = new BlockManager(CAPACITY, undefined, { listener: this.feed, copyBlock: () => {} });
  readonly events: KvEvents;

  constructor(maxKeptIds?: number) {
    this.events = new KvEvents('epoch-1', PUBLIC_NAMESPACE, maxKeptIds);
    this.events.open({ id: 'e', models: ['m'], capacityBlocks: CAPACITY });
  }

  /** Runs a whole prompt; null: no room. */
  run(namespace: string, tokens: Int32Array): BlockTable | null {
    const positions = tokens.length;
    const table = this.blocks.admit({
      ...{ scope: namespace, tokens, positions, maxCached: positions - 1, capacityPositions: positions },
      headroomBlocks: 0,
    });
    if (table) this.blocks.publish(table, tokens, positions);
    this.tell();
    return table;
  }

  release(table: BlockTable): void {
    this.blocks.release(table);
    this.tell();
  }

  tell(): void {
    const changes = this.feed.take();
    if (changes) this.events.apply('e', changes);
  }

  read(replica: KvReplica, over: { tokens?: boolean; namespace?: string } = {}, heard: KvEvent[] = []): () => void {
    const { epoch, sequence } = replica;
    const send = (event: KvEvent) => {
      heard.push(event);
      replica.apply(event);
    };
    const { namespace = null, tokens = false } = over;
    const from = sequence < 0 ? null : { epoch, sequence };
    const gone = new AbortController();
    this.events.subscribe({ from, namespace, tokens }, { send, end: () => {} }, gone.signal);
    return () => gone.abort();
  }
}

/** Ids of a prompt as a router computes them, which knows what is public. */
function idsOf(namespace: string, tokens: Int32Array): string[] {
  const isPublic = PUBLIC.every((token, i) => tokens[i] === token);
  const split = isPublic ? PUBLIC.length : 0;
  const shared = blockIds(scopeKey(PUBLIC_NAMESPACE), tokens.subarray(0, split));
  return [...shared, ...blockIds(scopeKey(namespace), tokens.subarray(split), shared.at(-1) ?? null)];
}

describe('replayed events', () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  it.each([65_536, 8])(`give the exact index at every moment, with %i ids kept (seed ${seed})`, (maxKeptIds) => {
    const random = randomOf(seed);
    const below = (count: number) => Math.floor(random() * count);
    const cache = new Cache(maxKeptIds);
    cache.blocks.publicPrefixes.declare('p', PUBLIC);
    const prompts = Array.from({ length: 12 }, (_, i) => {
      const length = BLOCK_TOKENS * below(6) + 1 + below(BLOCK_TOKENS);
      const own = Int32Array.from({ length }, (_, at) => (at < BLOCK_TOKENS * 2 ? i % 3 : i));
      return i % 4 === 0 ? Int32Array.of(...PUBLIC, ...own) : own;
    });
    const running: BlockTable[] = [];
    const replica = new KvReplica();
    let leave: (() => void) | null = null;
    for (let step = 0; step < 2000; step++) {
      const what = below(10);
      const namespace = NAMESPACES[below(NAMESPACES.length)] ?? '';
      if (what < 5) {
        const table = cache.run(namespace, prompts[below(prompts.length)] ?? PUBLIC);
        if (table) running.push(table);
      } else if (what < 8 && running.length > 0)
        for (const table of running.splice(below(running.length), 1)) cache.release(table);
      else if (what === 8 && running.length > 0)
        for (const table of running.splice(below(running.length), 1)) {
          cache.blocks.discard(table);
          cache.tell();
        }
      else if (leave) {
        leave();
        leave = null;
      }
      if (below(12) === 0) leave ??= cache.read(replica);
      if (!leave) continue;
      for (const prompt of prompts)
        for (const one of NAMESPACES) {
          const held = cache.blocks.cachedPrefix(one, prompt, prompt.length) / BLOCK_TOKENS;
          expect(replica.leading(idsOf(one, prompt)), `step ${step}`).toBe(held);
        }
    }
    expect(replica.clears).toBeGreaterThanOrEqual(1);
    expect(replica.clears > 1).toBe(maxKeptIds === 8);
  });
});

describe('a reader', () => {
  const prompt = (salt: number) => Int32Array.from({ length: 40 }, (_, i) => salt * 100 + i);

  it('that comes back hears what it missed, and nothing twice', () => {
    const cache = new Cache();
    const replica = new KvReplica();
    const leave = cache.read(replica);
    cache.run('ns-a', prompt(1));
    leave();
    cache.run('ns-a', prompt(2));
    const heard: KvEvent[] = [];
    cache.read(replica, {}, heard);
    expect(heard).toMatchObject([
      { type: 'stored', sequence: 2, models: ['m'] },
      { type: 'caught_up', sequence: 2 },
    ]);
    expect(replica).toMatchObject({ clears: 1, sequence: 2 });
    expect(replica.blocks.size).toBe(4);
  });

  it.each([
    ['of another process’ time', { epoch: 'epoch-0', sequence: 1 }],
    ['from the future', { epoch: 'epoch-1', sequence: 99 }],
  ])('%s begins anew', (_, from) => {
    const cache = new Cache();
    cache.run('ns-a', prompt(1));
    const heard: KvEvent[] = [];
    const sink = { send: (event: KvEvent) => heard.push(event), end: () => {} };
    cache.events.subscribe({ from, namespace: null, tokens: false }, sink, new AbortController().signal);
    expect(heard).toMatchObject([
      { type: 'all_cleared', epoch: 'epoch-1' },
      { type: 'stored', sequence: -1 },
      { type: 'caught_up', sequence: 1 },
    ]);
  });

  it('cut off amid what was there begins anew, and leaves no place behind', () => {
    const cache = new Cache();
    for (const salt of [1, 2, 3]) cache.run('ns-a', prompt(salt));
    const replica = new KvReplica();
    const gone = new AbortController();
    const send = (event: KvEvent) => {
      if (gone.signal.aborted) return;
      replica.apply(event);
      if (replica.blocks.size > 0) gone.abort();
    };
    cache.events.subscribe({ from: null, namespace: null, tokens: false }, { send, end: () => {} }, gone.signal);
    expect(cache.events.readers).toBe(0);
    expect(replica).toMatchObject({ sequence: -1, caughtUp: 0 });
    cache.read(replica);
    expect(replica).toMatchObject({ sequence: 3, caughtUp: 1, clears: 2 });
    expect(replica.blocks.size).toBe(6);
  });

  it('of one namespace hears of it and of what is public, never of another', () => {
    const cache = new Cache();
    cache.blocks.publicPrefixes.declare('p', PUBLIC);
    const heard: KvEvent[] = [];
    const replica = new KvReplica();
    cache.run('ns-b', prompt(1));
    cache.read(replica, { namespace: 'ns-a' }, heard);
    cache.run('ns-a', prompt(1));
    cache.run('ns-b', Int32Array.of(...PUBLIC, ...prompt(2)));
    const names = (list: string[]) => new Set(list.map((one) => scopeName(scopeKey(one))));
    expect(new Set(replica.scopes.values())).toEqual(names(['ns-a', PUBLIC_NAMESPACE]));
    expect(JSON.stringify(heard)).not.toContain('token_ids');
  });

  it('hears tokens of its own namespace alone, and only when it asks', () => {
    const cache = new Cache();
    cache.blocks.publicPrefixes.declare('p', PUBLIC);
    const heard: KvEvent[] = [];
    cache.run('ns-a', Int32Array.of(...PUBLIC, ...prompt(1)));
    cache.read(new KvReplica(), { namespace: 'ns-a', tokens: true }, heard);
    cache.run('ns-a', prompt(2));
    const stored = heard.filter((event) => event.type === 'stored');
    const told = stored.map(({ token_ids }) => token_ids);
    expect(told).toEqual([undefined, [...prompt(1).subarray(0, 32)], [...prompt(2).subarray(0, 32)]]);
  });

  it('ids of equal tokens differ by namespace, so that nobody can probe another’s', () => {
    expect(idsOf('ns-a', prompt(1))).not.toEqual(idsOf('ns-b', prompt(1)));
    expect(new Set([...idsOf('ns-a', prompt(1)), ...idsOf('ns-b', prompt(1))]).size).toBe(4);
  });

  it('too many at once are refused, and leaving makes room', () => {
    const cache = new Cache();
    const leaves = Array.from({ length: 16 }, () => cache.read(new KvReplica()));
    expect(() => cache.read(new KvReplica())).toThrow(PoolError);
    leaves[3]?.();
    cache.read(new KvReplica());
    expect(cache.events.readers).toBe(16);
  });
});
