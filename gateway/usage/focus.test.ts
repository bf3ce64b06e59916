// The FOCUS export against its specification and against the ledger: every row is valid, and however it is cut, it adds up to the
// nano-dollar and the token.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { focusFaults, nanoUsd, parseFocus } from '../../test/support/focusValidator.ts';
import { LocalAsyncSql } from '../asyncSql.ts';
import type { LedgerEntry } from '../ledger/port.ts';
import { MIGRATIONS } from '../migrations.ts';
import { costOf, decimalUsd, type Price } from '../prices/price.ts';
import { openDatabase } from '../sqlite.ts';
import { costSums } from './costs.ts';
import { exportFocus } from './focus.ts';
import { SqlUsage } from './sqlUsage.ts';

const PARTIES = { accountId: 'acct', accountName: 'Some, "quoted" Inc', issuerName: 'Issuer' };
const ALL = { startMs: 0, endMs: Number.MAX_SAFE_INTEGER };
const MONTH_END = Date.UTC(2026, 7, 1);
const PRICES: readonly (Price | null)[] = [
  null,
  { version: 'price_a', inputNanoUsd: 100, cachedInputNanoUsd: 10, outputNanoUsd: 333 },
  { version: 'price_b', inputNanoUsd: 7, cachedInputNanoUsd: 7, outputNanoUsd: 10_000_000 },
];

const entries: fc.Arbitrary<LedgerEntry[]> = fc
  .array(
    fc.record({
      tenant: fc.constantFrom('proj_a', 'proj_b'),
      keyId: fc.constantFrom('key_1', 'key_2'),
      model: fc.constantFrom('tiny', 'a,"b"', '=large'),
      price: fc.constantFrom(...PRICES),
      input: fc.nat(5000),
      cached: fc.nat(5000),
      output: fc.nat(3_000_000),
      reservedAtMs: fc.integer({ min: MONTH_END - 4 * 3_600_000, max: MONTH_END + 3 * 3_600_000 }),
      tookMs: fc.nat(7_200_000),
    }),
    { minLength: 1, maxLength: 60, size: 'max' },
  )
  .map((all) =>
    all.map(({ tookMs, input, cached, output, price, ...one }, i) => {
      const tokens = { inputTokens: input, cachedInputTokens: Math.min(cached, input), outputTokens: output };
      const times = { settledAtMs: one.reservedAtMs + tookMs, sequence: i + 1, requestId: `r${i}` };
      return {
        ...one,
        ...tokens,
        ...times,
        price,
        costNanoUsd: costOf(price, tokens),
        pool: 'p',
        outcome: 'completed',
      };
    }),
  );

async function withUsage<T>(work: (usage: SqlUsage) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', MIGRATIONS);
  try {
    return await work(new SqlUsage(new LocalAsyncSql(db)));
  } finally {
    db.close();
    rmSync(folder, { recursive: true });
  }
}

const focusOf = (usage: SqlUsage, after: number, upTo: number) =>
  new Response(exportFocus(usage, ALL, { after, upTo }, PARTIES, async (project) => `Name of ${project}`)).text();

test('every row is valid, and any cut of the export adds up to the ledger', async () => {
  await fc.assert(
    fc.asyncProperty(entries, fc.nat(60), async (all, cut) => {
      await withUsage(async (usage) => {
        await usage.append(all);
        const whole = await focusOf(usage, 0, all.length);
        expect(focusFaults(whole)).toEqual([]);
        expect(await focusOf(usage, 0, all.length)).toBe(whole);
        const at = Math.min(cut, all.length);
        const parts = [await focusOf(usage, 0, at), await focusOf(usage, at, all.length)];
        const billed = all.reduce((sum, { costNanoUsd }) => sum + BigInt(costNanoUsd), 0n);
        const used = all.reduce((sum, { inputTokens, outputTokens }) => sum + inputTokens + outputTokens, 0);
        for (const rows of [parseFocus(whole).rows, parts.flatMap((part) => parseFocus(part).rows)]) {
          expect(rows.reduce((sum, row) => sum + nanoUsd(row.BilledCost ?? ''), 0n)).toBe(billed);
          expect(rows.reduce((sum, row) => sum + Number(row.ConsumedQuantity), 0)).toBe(used);
        }
        const uses = await usage.priced({
          ...{ filter: ALL, range: { after: 0, upTo: all.length }, originMs: 0, widthMs: 86_400_000 },
          ...{ byKey: true, limit: 1000 },
        });
        for (const groups of [[], ['line_item'], ['project_id', 'api_key_id']] as const)
          expect(costSums(uses, groups).reduce((sum, { nanoUsd: cost }) => sum + cost, 0n)).toBe(billed);
      });
    }),
    { numRuns: 60 },
  );
}, 60_000);

test('a page of sums goes on behind the last one, whatever the page', () =>
  withUsage(async (usage) => {
    const [all] = fc.sample(entries, { numRuns: 1, seed: 7 });
    await usage.append(all ?? []);
    const query = { filter: ALL, range: { after: 0, upTo: 1000 }, originMs: 0, widthMs: 3_600_000, byKey: true };
    const whole = await usage.priced({ ...query, limit: 1000 });
    expect(whole.length).toBeGreaterThan(10);
    const paged: typeof whole = [];
    for (let page = whole.slice(0, 0); ; ) {
      const behind = page.at(-1);
      page = await usage.priced({ ...query, limit: 3, ...(behind && { behind }) });
      if (page.length === 0) break;
      paged.push(...page);
    }
    expect(paged).toEqual(whole);
  }));

test('one project, hour, model and meter: the row in full', () =>
  withUsage(async (usage) => {
    const tokens = { inputTokens: 10, cachedInputTokens: 4, outputTokens: 3 };
    const price = PRICES[1] ?? null;
    const reservedAtMs = MONTH_END - 1000;
    const entry = { sequence: 1, requestId: 'r1', tenant: 'proj_a', keyId: 'k', model: 'tiny', pool: 'p', price };
    const bill = { ...tokens, outcome: 'completed' as const, costNanoUsd: costOf(price, tokens) };
    await usage.append([{ ...entry, ...bill, reservedAtMs, settledAtMs: MONTH_END + 5 }]);
    const { rows } = parseFocus(await focusOf(usage, 0, 1));
    expect(
      rows.map(({ SkuMeter, ConsumedQuantity, BilledCost, ListUnitPrice }) => [
        ...[SkuMeter, ConsumedQuantity, BilledCost, ListUnitPrice],
      ]),
    ).toEqual([
      ['Input Tokens', '6', '0.0000006', '0.0000001'],
      ['Cached Input Tokens', '4', '0.00000004', '0.00000001'],
      ['Output Tokens', '3', '0.000000999', '0.000000333'],
    ]);
    expect(rows[0]).toMatchObject({
      BillingAccountName: 'Some, "quoted" Inc',
      BillingPeriodStart: '2026-07-01T00:00:00Z',
      BillingPeriodEnd: '2026-08-01T00:00:00Z',
      ChargePeriodStart: '2026-07-31T23:00:00Z',
      ChargePeriodEnd: '2026-08-01T00:00:00Z',
      // Settled when July had ended: its bill may have been sent.
      ChargeClass: 'Correction',
      SkuPriceId: 'price_a/input',
      SubAccountId: 'proj_a',
      SubAccountName: 'Name of proj_a',
    });
  }));

test('the validator sees what is wrong', () =>
  withUsage(async (usage) => {
    const [all] = fc.sample(entries, { numRuns: 1, seed: 3 });
    await usage.append(all ?? []);
    const good = await focusOf(usage, 0, 1000);
    for (const [from, to, fault] of [
      ['BilledCost', 'Billed', 'no column BilledCost'],
      [',USD,', ',,', 'BillingCurrency is null'],
      [',Usage,', ',Use,', 'ChargeCategory'],
      ['2026-08-01T00:00:00Z', '2026-08-01', 'no UTC time'],
    ] as const)
      expect(focusFaults(good.replaceAll(from, to)).join()).toContain(fault);
    const { columns } = parseFocus(good);
    const cells = good.split('\r\n')[1]?.split(',') ?? [];
    expect(cells[columns.indexOf('BilledCost')]).toMatch(/^\d+(\.\d+)?$/);
  }));

test('dollars are exact decimals', () => {
  const of = (nano: bigint) => decimalUsd(nano);
  expect([of(0n), of(1n), of(-1n), of(1_500_000_000n), of(10n ** 20n + 10n)]).toEqual([
    ...['0', '0.000000001', '-0.000000001', '1.5', '100000000000.00000001'],
  ]);
});
