// The bench at its smallest: so that it can't rot, and that what it promises of the cache holds at any size.
import { expect, it } from 'vitest';
import { measureBlocks } from './cache/blocks.ts';
import { measureTiers } from './cache/tiers.ts';

it('measures every figure, and wastes less than 4 % of the KV arena', () => {
  const rows = measureBlocks({ promptTokens: [400, 2_000], memoryBlocks: 500, rounds: 2, policy: 'lru' });
  const names = new Set(rows.map(({ name }) => name));
  expect([...names]).toEqual([
    'cache_memory',
    'cache_lookup',
    'cache_admit_hit',
    'cache_release',
    'cache_admit',
    'cache_publish',
    'cache_admit_evicting',
    'cache_append',
    'kv_waste',
  ]);
  for (const { name, value } of rows) if (name !== 'cache_memory') expect(value, name).toBeGreaterThan(0);
  expect(rows.find(({ name }) => name === 'kv_waste')?.value).toBeLessThan(4);
});

it('measures the tiers, each of which answers the whole prompt', async () => {
  const rows = await measureTiers({ promptTokens: 100, blockBytes: 8_192, rounds: 2 });
  expect(rows.map(({ name, tier }) => `${name} ${tier}`)).toEqual([
    'tier_write_rate disk',
    'tier_probe ram',
    'tier_load ram',
    'tier_probe disk',
    'tier_load disk',
    'tier_load_rate disk',
  ]);
  for (const { name, value } of rows) expect(value, name).toBeGreaterThan(0);
});
