// The simulation of routing at its smallest: conversations that come again need their pool, and a policy that finds it hits where others don't.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'hearth-routing-'));
afterAll(() => rmSync(folder, { recursive: true }));
const trace = join(folder, 'trace.jsonl');
const script = fileURLToPath(new URL('./simRouting.ts', import.meta.url));
const simulate = (...args: string[]) => spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });

it('compares hit rate and queue of the policies', () => {
  // 30 conversations of 12 turns, each a block longer; a turn every 400 ms, in an order that no turn of pools follows.
  const lines = Array.from({ length: 360 }, (_, i) => {
    const [turn, talk] = [Math.floor(i / 30), (i * 7) % 30];
    const ids = Array.from({ length: turn + 2 }, (_, block) => talk * 100 + block);
    return { timestamp: i * 400, input_length: ids.length * 512 - 1, output_length: 20, hash_ids: ids };
  });
  writeFileSync(trace, lines.map((line) => JSON.stringify(line)).join('\n'));
  const json = join(folder, 'rows.json');
  const { status, stdout, stderr } = simulate(trace, '--pools', '4', '--capacity', '100', '--json', json);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout).toContain('360 requests, blocks of 512 tokens, 4 pools');
  const rows: { name: string; policy: string; value: number }[] = JSON.parse(readFileSync(json, 'utf8'));
  const of = (name: string, policy: string): number =>
    rows.find((row) => row.name === name && row.policy === policy)!.value;
  expect(of('hit_rate', 'prefix-affine')).toBeGreaterThan(80);
  expect(of('hit_rate', 'prefix-affine')).toBeGreaterThan(2 * of('hit_rate', 'round-robin'));
  expect(of('wait_p99', 'prefix-affine')).toBeLessThan(1.2 * of('wait_p99', 'least-latency') + 1);
  expect(of('imbalance', 'round-robin')).toBe(1);
});

it('says what is wrong with its arguments', () => {
  writeFileSync(trace, '{"hash_ids": [1, 2], "input_length": 600}\n');
  expect(simulate(trace).stderr).toBe(
    'sim:routing: a trace with "timestamp" and "input_length" in every line is needed\n',
  );
  expect(simulate(trace, '--policy', 'best').stderr).toContain('there is no policy best; there are: prefix-affine,');
  expect(simulate(trace, '--pools', '0').stderr).toBe('sim:routing: --pools takes whole numbers from 1\n');
});
