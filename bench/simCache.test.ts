// The simulator at its smallest: so that it can't rot, and that its file has the form which comparisons are drawn from.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'hearth-sim-'));
afterAll(() => rmSync(folder, { recursive: true }));
const trace = join(folder, 'trace.jsonl');
const script = fileURLToPath(new URL('./simCache.ts', import.meta.url));
const simulate = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });

it('prints and writes the hit rate of each policy at each capacity', () => {
  // Three prompts of two blocks in turn: nothing fits into 3 blocks under LRU, all of it into 6.
  const lines = Array.from({ length: 30 }, (_, i) => JSON.stringify({ input_length: 1024, hash_ids: [i % 3, i % 3] }));
  writeFileSync(trace, lines.join('\n'));
  const json = join(folder, 'rows.json');
  const { status, stdout } = simulate(trace, '--capacity', '3,6', '--policy', 'lru,optimum', '--json', json);
  expect(status).toBe(0);
  expect(stdout).toContain('30 requests, 60 blocks');
  const rows: Record<string, unknown>[] = JSON.parse(readFileSync(json, 'utf8'));
  const rates = rows.filter(({ name }) => name === 'hit_rate');
  expect(rates.map(({ policy, capacityBlocks, unit }) => [policy, capacityBlocks, unit])).toEqual([
    ['lru', 3, '%'],
    ['optimum', 3, '%'],
    ['lru', 6, '%'],
    ['optimum', 6, '%'],
  ]);
  const [lruSmall, bestSmall, lruAll, bestAll] = rates.map(({ value }) => value as number);
  expect(lruSmall).toBe(0);
  expect(bestSmall).toBeGreaterThan(0);
  expect([lruAll, bestAll]).toEqual([90, 90]);
});

it('a cache of far more blocks than the trace has takes no more memory than one that holds them all', () => {
  const small = join(folder, 'small.jsonl');
  writeFileSync(small, ['{"hash_ids": [1, 2]}', '{"hash_ids": [1, 2, 3]}'].join('\n'));
  const { status, stdout, stderr } = simulate(small, '--capacity', `${2 ** 24}`);
  expect(status).toBe(0);
  expect(stderr).toContain('2 requests have no "input_length"');
  expect(stdout.match(/40\.00 \(100\)/g)).toHaveLength(6);
});

it('plays tenants beside a noisy neighbour on made-up traffic, and says what each loses', () => {
  const json = join(folder, 'tenants.json');
  const args = ['made:chats', '--tenants', '--half', 'first', '--capacity', '3600', '--policy', 'lru,multi-tenant'];
  const { status, stdout, stderr } = simulate(...args, '--json', json);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout).toContain('8 tenants and a scanner');
  const rows: { name: string; policy: string; value: number }[] = JSON.parse(readFileSync(json, 'utf8'));
  const value = (name: string, policy: string) => rows.find((row) => row.name === name && row.policy === policy)!.value;
  expect(value('hit_rate', 'multi-tenant')).toBeGreaterThan(value('hit_rate', 'lru'));
  expect(value('worst_loss', 'multi-tenant')).toBeLessThan(value('worst_loss', 'lru'));
  expect(value('quiet_hit_rate', 'lru')).toBeGreaterThan(value('hit_rate', 'lru'));
});

it.each([
  [['--policy', 'clairvoyant'], 'there is no eviction policy "clairvoyant"'],
  [['--capacity', '10,many'], '--capacity takes'],
  [['--half', 'third'], '--half takes'],
  [['--sample', '2'], '--sample takes'],
  [['--colour'], "Unknown option '--colour'"],
  [['another.jsonl'], 'one trace file'],
  [['--tenants', '--policy', 'optimum'], '--tenants has no optimum'],
  [['--tenants', '--capacity', '8'], '--tenants takes a --capacity of at least 9'],
  [['--json', join(folder, 'absent', 'rows.json')], "--json can't be written"],
  [['--sample', '1e-9'], 'no request is left'],
])('refuses %s with one line', (args, problem) => {
  const { status, stderr } = simulate(trace, ...args);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^sim:cache: .*\n$/);
  expect(stderr).toContain(problem);
});
