// What a request costs in the ledger: admit and settle on node:sqlite in a file, with no limit, and with six of every metric and scope, in
// turn. `npm run bench:ledger -- --requests 5000`
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { LimitRule } from '../gateway/ledger/limits.ts';
import { SqlLedger } from '../gateway/ledger/sqlLedger.ts';
import { MIGRATIONS } from '../gateway/migrations.ts';
import { openDatabase } from '../gateway/sqlite.ts';

export interface LedgerFigures {
  limits: number;
  /** Microseconds, median. */
  admitUs: number;
  settleUs: number;
}

const SIX: readonly Pick<LimitRule, 'metric' | 'window'>[] = [
  { metric: 'requests', window: 'minute' },
  { metric: 'tokens', window: 'minute' },
  { metric: 'tokens', window: 'day' },
  { metric: 'tokens', window: 'lifetime' },
  { metric: 'spend', window: 'month' },
  { metric: 'concurrent', window: 'none' },
];
const PRICE = { version: 'price_1', inputNanoUsd: 100, cachedInputNanoUsd: 50, outputNanoUsd: 400 };
const HASH = { pepperVersion: 1, hash: '00'.repeat(32) };
const KEY = { serviceAccountId: null, name: 'k', redacted: '', createdAtMs: 0, lastUsedAtMs: null, expiresAtMs: null };

export async function measureLedger(requests: number, rounds: number): Promise<LedgerFigures[]> {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-ledger-'));
  const db = openDatabase(join(folder, 'ledger.sqlite'), 'NORMAL', MIGRATIONS);
  const ledger = new SqlLedger(db);
  const arms = [[], SIX].map((kinds, i) => ({
    ...{ tenant: `proj_${i}`, kinds, hash: { ...HASH, hash: `0${i}`.repeat(32) } },
    ...{ admit: [] as number[], settle: [] as number[] },
  }));
  for (const { tenant, kinds, hash } of arms) {
    await ledger.openTenant(tenant);
    await ledger.addKey({ ...KEY, id: `key_${tenant}`, tenant, models: null }, hash);
    const rules = kinds.map((kind) => ({ ...kind, limit: 1e15, models: null, timeZone: 'UTC' }));
    await ledger.putLimits(tenant, [{ keyId: null, set: 'bench', rules }], Date.now());
  }
  for (let round = 0; round < rounds; round++)
    for (const arm of arms)
      for (let n = 0; n < requests; n++) {
        const requestId = `r-${arm.tenant}-${round}-${n}`;
        const nowMs = Date.now();
        const demand = { promptTokens: 10, promptExact: true, choices: 1, outputTokens: 20, outputFlexible: false };
        const times = { nowMs, deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 };
        const who = { tenant: arm.tenant, hashes: [arm.hash], requestId, model: 'm', pool: 'p' };
        const bill = { inputTokens: 10, cachedInputTokens: 5, outputTokens: 7, outcome: 'completed' as const };
        const start = performance.now();
        await ledger.admit({ ...who, demand, price: PRICE, ...times });
        const admitted = performance.now();
        await ledger.settle({ tenant: arm.tenant, requestId, bill, nowMs });
        arm.admit.push(admitted - start);
        arm.settle.push(performance.now() - admitted);
      }
  db.close();
  rmSync(folder, { recursive: true });
  return arms.map(({ kinds, admit, settle }) => ({
    ...{ limits: kinds.length, admitUs: median(admit) * 1000, settleUs: median(settle) * 1000 },
  }));
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { requests: { type: 'string', default: '5000' } } });
  for (const { limits, admitUs, settleUs } of await measureLedger(Number(values.requests), 3))
    console.log(`${limits} limits: admit ${admitUs.toFixed(0)} µs, settle ${settleUs.toFixed(0)} µs (median)`);
  console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, node:sqlite in WAL, synchronous NORMAL`);
}
