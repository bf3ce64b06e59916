// The gateway's bench at its smallest, without peers: so that it can't rot, and that its file has every figure with its aim.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import type { Report } from './report.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-bench-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('measures every contender, idle streams, many tenants and a long ledger', () => {
  const json = join(folder, 'gateway.json');
  const sizes = { rounds: 1, requests: 48, idle: 10, tenants: 100, rows: 2000 };
  const options = Object.entries(sizes).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const script = fileURLToPath(new URL('./gateway.ts', import.meta.url));
  execFileSync(process.execPath, [script, '--no-peers', ...options, '--json', json], { stdio: 'ignore' });
  const { rows }: Report = JSON.parse(readFileSync(json, 'utf8'));
  for (const { name, value } of rows) expect(Number.isFinite(value), name).toBe(true);
  expect(new Set(rows.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway])))).toEqual(
    new Set(['no gateway', 'bare hop', 'hearth', 'hearth, power-loss-safe']),
  );
  const aimed = rows.filter(({ aim, most }) => aim !== undefined || most !== undefined).map(({ name }) => name);
  expect(aimed).toEqual([
    'added p50, plain',
    'added p50, streamed',
    'memory of 10 idle streams',
    '100 tenants, 0 rows: throughput / first',
    '10 tenants, 2000 rows: throughput / first',
  ]);
}, 120_000);
