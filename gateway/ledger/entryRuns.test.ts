// Many tenants' entries in small runs: whatever is settled, in which order, by whichever process, each entry is indexed once, each row says what it
// counts through the entry that it names, and limits are what all entries add up to.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MIGRATIONS } from '../migrations.ts';
import { int, text } from '../sql.ts';
import { openDatabase, type SqliteStore } from '../sqlite.ts';
import type { LimitRule } from './limits.ts';
import { SqlLedger } from './sqlLedger.ts';

const NOON = Date.UTC(2026, 6, 15, 12);
const DAY_MS = 86_400_000;
/** More than are counted at once. */
const TENANTS = Array.from({ length: 24 }, (_, i) => `proj_${String(i).padStart(2, '0')}`);
const hashOf = (tenant: string) => ({ pepperVersion: 1, hash: tenant.slice(-2).repeat(32) });
const rule = (metric: LimitRule['metric'], window: LimitRule['window']): LimitRule => ({
  ...{ metric, window, limit: 1_000_000, models: null, timeZone: 'UTC' },
});
const RULES = [rule('tokens', 'lifetime'), rule('tokens', 'day'), rule('requests', 'minute')];

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('request' as const),
      tenants: fc.array(fc.nat(TENANTS.length - 1), { minLength: 1, maxLength: 8 }),
      tokens: fc.integer({ min: 0, max: 30 }),
      fails: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(700, 40_000, DAY_MS) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('back' as const), ms: fc.constantFrom(9000, 400_000, DAY_MS) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('tend' as const), steps: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('put' as const), tenant: fc.nat(TENANTS.length - 1) }) },
);

test('limits are what all entries add up to', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 40 }),
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (n, steps) => {
        const folder = mkdtempSync(join(tmpdir(), 'hearth-runs-'));
        const open = () => openDatabase(join(folder, 'ledger.sqlite'), 'NORMAL', MIGRATIONS);
        let db = open();
        // Half of them remember one tenant at most.
        const options = { entriesPerRun: n, ...(n % 2 === 0 && { booksBytes: 4000 }) };
        let ledger = new SqlLedger(db, options);
        for (const tenant of TENANTS) await openTenant(ledger, tenant);
        let nowMs = NOON;
        for (const [i, one] of steps.entries()) {
          if (one.do === 'wait') nowMs += one.ms;
          if (one.do === 'back') nowMs -= one.ms;
          if (one.do === 'reopen') {
            db.close();
            db = open();
            ledger = new SqlLedger(db, options);
          }
          if (one.do === 'tend') for (let step = 0; step < one.steps; step++) await ledger.tend();
          if (one.do === 'put') {
            const sets = [{ keyId: null, set: 'test', rules: RULES }];
            await ledger.putLimits(TENANTS[one.tenant] ?? '', sets, nowMs);
          }
          if (one.do === 'request') {
            const tenants = one.tenants.map((which) => TENANTS[which] ?? '');
            await requests(ledger, tenants, `r${String(i).padStart(2, '0')}`, { ...one, nowMs });
          }
          if (i % 10 === 9) await compare(db, ledger, nowMs);
        }
        await compare(db, ledger, nowMs);
        db.close();
        rmSync(folder, { recursive: true });
      },
    ),
    { numRuns: 60, endOnFailure: true },
  );
}, 120_000);

async function openTenant(ledger: SqlLedger, tenant: string): Promise<void> {
  await ledger.openTenant(tenant);
  const names = { id: `key_${tenant}`, tenant, serviceAccountId: null, name: 'k', redacted: '', models: null };
  await ledger.addKey({ ...names, createdAtMs: NOON, lastUsedAtMs: null, expiresAtMs: null }, hashOf(tenant));
  await ledger.putLimits(tenant, [{ keyId: null, set: 'test', rules: RULES }], NOON);
}

/** At once, so that they share commits; `fails`: with a command among them that can't be done, so that all are undone, and done one by one. */
async function requests(
  ledger: SqlLedger,
  tenants: readonly string[],
  name: string,
  { tokens, fails, nowMs }: { tokens: number; fails: boolean; nowMs: number },
): Promise<void> {
  const ids = tenants.map((tenant, i) => ({ tenant, requestId: `${name}-${i}` }));
  const admit = ({ tenant, requestId }: { tenant: string; requestId: string }) =>
    ledger.admit({
      ...{ tenant, hashes: [hashOf(tenant)], requestId, model: 'm', pool: 'p', price: null },
      demand: { promptTokens: 10, promptExact: true, choices: 1, outputTokens: 30, outputFlexible: false },
      ...{ nowMs, deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 },
    });
  for (const one of ids) expect(await admit(one)).toMatchObject({ kind: 'granted' });
  const bill = { inputTokens: 10, cachedInputTokens: 0, outputTokens: tokens, outcome: 'completed' as const };
  const settle = (one: { tenant: string; requestId: string }) => ledger.settle({ ...one, nowMs, bill });
  const last = ids.slice(-1);
  const works = [...ids.slice(0, -1).map(settle), ...(fails ? last.map(admit) : []), ...last.map(settle)];
  const rejected = (await Promise.allSettled(works)).filter(({ status }) => status === 'rejected');
  expect(rejected).toHaveLength(fails ? 1 : 0);
}

async function compare(db: SqliteStore, ledger: SqlLedger, nowMs: number): Promise<void> {
  const all = (query: string) => db.prepare(query).all();
  for (const tenant of TENANTS) {
    const limits = await ledger.limits(tenant, nowMs);
    const latest = int(all(`SELECT latest_second FROM tenants WHERE id = '${tenant}'`)[0], 'latest_second');
    const sum = (what: string, where: string) =>
      int(all(`SELECT coalesce(sum(${what}), 0) AS n FROM entries WHERE tenant = '${tenant}' AND ${where}`)[0], 'n');
    const day = Math.floor(nowMs / DAY_MS) * DAY_MS;
    expect(limits.map(({ settled, held }) => [settled, held])).toEqual(
      [
        sum('input + output', '1'),
        sum('input + output', `reserved_ms >= ${day} AND reserved_ms < ${day + DAY_MS}`),
        sum('1', `booked_second >= ${latest - 60}`),
      ].map((settled) => [settled, 0]),
    );
  }
  for (const row of all(`SELECT tenant, start_ms, end_ms, settled, through FROM meters WHERE ring IS NULL`)) {
    const [from, until] = [int(row, 'start_ms'), row.end_ms === null ? 8.64e15 : int(row, 'end_ms')];
    const counted = all(
      `SELECT coalesce(sum(input + output), 0) AS n FROM entries WHERE tenant = '${text(row, 'tenant')}'
       AND sequence <= ${int(row, 'through')} AND reserved_ms >= ${from} AND reserved_ms < ${until}`,
    );
    expect(int(row, 'settled')).toBe(int(counted[0], 'n'));
  }
  const through = int(all('SELECT coalesce(max(through), 0) AS n FROM entry_runs')[0], 'n');
  expect(all('SELECT tenant, reserved_ms, sequence FROM indexed_entries ORDER BY sequence')).toEqual(
    all(`SELECT tenant, reserved_ms, sequence FROM entries WHERE sequence <= ${through} ORDER BY sequence`),
  );
}
