// What would be deployed: wrangler accepts the configuration and bundles the Worker, its D1 migrations apply and are those of migrations.ts.
// Nothing leaves the machine.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { d1Migrations } from '../../gateway/edge/d1Migrations.ts';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'hearth-deploy-'));
/** A Worker of the free plan may have 3 MiB; a large one starts late. */
const MAX_GZIP_BYTES = 512 * 1024;

afterAll(() => rmSync(folder, { recursive: true }));

async function wrangler(...args: string[]): Promise<string> {
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false', CI: 'true', XDG_CONFIG_HOME: folder };
  const script = join(root, 'node_modules/wrangler/bin/wrangler.js');
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args], { cwd: root, env });
  return stdout;
}

test('wrangler deploy --dry-run passes, with the bindings that the Worker needs', async () => {
  const told = await wrangler('deploy', '--dry-run', '--outdir', join(folder, 'out'));
  expect(told).toMatch(/env\.TENANTS \(TenantLedger\)\s+Durable Object/);
  expect(told).toMatch(/env\.DB \(hearth\)\s+D1 Database/);
  const bundle = join(folder, 'out/worker.js');
  expect(statSync(bundle).size).toBeGreaterThan(100_000);
  expect(gzipSync(readFileSync(bundle)).length).toBeLessThan(MAX_GZIP_BYTES);
});

test('wrangler d1 migrations apply takes every file on an empty database', async () => {
  const told = await wrangler('d1', 'migrations', 'apply', 'hearth', '--local', '--persist-to', join(folder, 'd1'));
  for (const { name } of d1Migrations()) expect(told).toMatch(new RegExp(`${name}.*✅`));
});

test('the files that D1 is migrated with are the steps of migrations.ts (npm run edge:migrations writes them)', () => {
  const kept = join(root, 'gateway/edge/d1');
  const files = readdirSync(kept).sort();
  expect(files.map((name) => ({ name, text: readFileSync(join(kept, name), 'utf8') }))).toEqual(d1Migrations());
});
