// The example of docs/kv-cache.md, played on the real block manager and the real multi-tenant policy: each picture there is what this prints.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BlockManager, type BlockTable } from '../engine/blockManager.ts';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import type { EvictionPolicy } from '../engine/eviction/policy.ts';
import { BLOCK_TOKENS } from '../engine/modelRunner.ts';

const CAPACITY = 12;

/** `count` tokens that nobody else has. */
function words(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

class Example {
  readonly #labels = new Array<string>(CAPACITY).fill('');
  readonly #live = new Map<string, BlockTable>();
  readonly #manager: BlockManager;

  constructor(systemPrompt: number[]) {
    this.#manager = new BlockManager(CAPACITY, this.#watched(createEvictionPolicy('multi-tenant', CAPACITY)), {
      copyBlock: () => {},
    });
    expect(this.#manager.publicPrefixes.declare('system', Int32Array.from(systemPrompt))).toBeNull();
  }

  /** A block that leaves the index is empty to the reader of the picture. */
  #watched(policy: EvictionPolicy): EvictionPolicy {
    const remove = policy.remove.bind(policy);
    policy.remove = (block) => {
      remove(block);
      this.#labels[block] = '';
    };
    return policy;
  }

  /** Admits and computes a request; what the cache answered of it, in positions. */
  run(tenant: string, name: string, tokens: number[]): number {
    const all = Int32Array.from(tokens);
    const table = this.#manager.admit({
      scope: `namespace of ${tenant}`,
      account: { name: tenant, weight: 1, floorShare: 0 },
      tokens: all,
      positions: all.length,
      maxCached: all.length - 1,
      capacityPositions: all.length,
      headroomBlocks: 0,
    });
    if (!table) throw new Error('the example fits');
    const cached = table.cachedPositions;
    this.#live.set(name, table);
    this.#manager.publish(table, all, all.length);
    for (let place = 0; place < table.length; place++) {
      const partial = (place + 1) * BLOCK_TOKENS > all.length ? '+' : '';
      const owner = place < table.publicBlocks ? 'P' : tenant;
      this.#labels[table.blocks[place]!] ||= `${owner}${place + 1}${partial}`;
    }
    return cached;
  }

  end(...names: string[]): void {
    for (const name of names) {
      this.#manager.release(this.#live.get(name)!);
      this.#live.delete(name);
    }
    this.#manager.checkInvariants(this.#live.values());
  }

  picture(): string {
    const users = new Array<number>(CAPACITY).fill(0);
    for (const table of this.#live.values()) for (const block of table.view()) users[block]! += 1;
    const row = (name: string, cells: (string | number)[]): string =>
      `    ${name.padEnd(8)}${cells.map((cell) => String(cell).padEnd(5)).join('')}`.trimEnd();
    return [
      row('block', [...users.keys()]),
      row(
        'holds',
        this.#labels.map((label) => label || '.'),
      ),
      row(
        'users',
        users.map((count, block) => (this.#labels[block] ? count : '')),
      ),
    ].join('\n');
  }
}

describe('docs/kv-cache.md', () => {
  const page = readFileSync(new URL('../docs/kv-cache.md', import.meta.url), 'utf8');

  it('shows what happens', () => {
    const shown = (picture: string): void => expect(page).toContain(`\n${picture}\n`);
    const system = words(1000, 32);
    const question = words(2000, 20);
    const answer = words(2500, 7);
    const day = new Example(system);

    expect(day.run('A', 'a1', [...system, ...question])).toBe(0);
    shown(day.picture());

    expect(day.run('B', 'b1', [...system, ...words(3000, 10)])).toBe(32);
    shown(day.picture());

    day.end('a1', 'b1');
    shown(day.picture());

    const turn = [...system, ...question, ...answer, ...words(2600, 12)];
    expect(day.run('A', 'a2', turn)).toBe(52);
    shown(day.picture());
    day.end('a2');

    for (let flood = 0; flood < 4; flood++) {
      expect(day.run('B', `b${2 + flood}`, [...system, ...words(4000 + 100 * flood, 48)])).toBe(32);
      day.end(`b${2 + flood}`);
    }
    shown(day.picture());

    expect(day.run('A', 'a3', [...turn, ...words(2700, 5)])).toBeGreaterThanOrEqual(64);
  });
});
