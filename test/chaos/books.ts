// After a storm: does the bill say what the journals say? The gateway's database is read as it lies, and held against everything that the
// pools have ever journalled and what clients were told. Returns every fault in words; none is what is wanted.
import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';
import { billOf } from '../../gateway/ledger/bill.ts';
import { requestOf } from '../../gateway/ledger/idempotency.ts';
import type { Receipt } from '../../pool/wire/events.ts';
import type { Told } from './client.ts';
import type { PlannedTenant } from './plan.ts';

const row = z.object({
  sequence: z.int(),
  request_id: z.string(),
  tenant: z.string(),
  pool: z.string(),
  input: z.int(),
  cached_input: z.int(),
  output: z.int(),
});
type Row = z.infer<typeof row>;
const count = z.object({ n: z.int() });
const meter = z.object({ settled: z.int(), through: z.int() });

export interface StormRecords {
  /** The gateway's database. */
  path: string;
  /** The last that each pool journalled of each request. */
  receipts: readonly Receipt[];
  tenants: readonly PlannedTenant[];
  /** What clients were told of requests that were answered. */
  told: readonly Told[];
}

interface Tokens {
  input: number;
  output: number;
}

export function faultsOf({ path, receipts, tenants, told }: StormRecords): string[] {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const all = (text: string) => db.prepare(text).all();
    const number = (text: string) => count.parse(db.prepare(text).get()).n;
    const rows = z.array(row).parse(all('SELECT * FROM entries ORDER BY sequence'));
    const usage = z.array(row).parse(all('SELECT *, project AS tenant FROM usage'));
    const keyed = new Set(
      z
        .array(z.object({ request_id: z.string() }))
        .parse(all('SELECT request_id FROM idempotency'))
        .map((one) => one.request_id),
    );
    const billed = sumsOf(rows);
    return [
      ...all('PRAGMA integrity_check').flatMap((one) =>
        one.integrity_check === 'ok' ? [] : `integrity: ${JSON.stringify(one)}`,
      ),
      ...all('PRAGMA foreign_key_check').map((one) => `foreign key: ${JSON.stringify(one)}`),
      ...(number('SELECT count(*) AS n FROM holds') > 0
        ? [`holds are left: ${JSON.stringify(all('SELECT * FROM holds'))}`]
        : []),
      ...notOfReceipts(rows, billed, receipts),
      ...notExportedOnce(rows, usage),
      ...notAsTold(billed, told),
      ...tenants.flatMap((one) => ofTenant(one, rows, keyed, all)),
      ...miscounted(all),
    ];
  } finally {
    db.close();
  }
}

/** Rows of a request's attempts together, by its id. */
function sumsOf(rows: readonly Row[]): Map<string, Tokens> {
  const sums = new Map<string, Tokens>();
  for (const { request_id, input, output } of rows) {
    const before = sums.get(requestOf(request_id)) ?? { input: 0, output: 0 };
    sums.set(requestOf(request_id), { input: before.input + input, output: before.output + output });
  }
  return sums;
}

/**
 * Each position that some pool released, once; each prompt once, where anything of it was billed. Of a request that went on at another pool
 * the row's pool has the last word; what one before it had released, and nobody was told, may be in the bill or not.
 */
function notOfReceipts(
  rows: readonly Row[],
  billed: ReadonlyMap<string, Tokens>,
  receipts: readonly Receipt[],
): string[] {
  const faults: string[] = [];
  const rowOf = new Map(rows.map((one) => [one.request_id, one]));
  for (const [requestId, all] of Map.groupBy(receipts, (receipt) => requestOf(receipt.request_id))) {
    const running = all.filter(({ outcome }) => outcome === 'running');
    if (running.length > 0) faults.push(`${requestId} runs still: ${JSON.stringify(running)}`);
    const least = unionOf(all.filter((one) => one.pool_id === rowOf.get(one.request_id)?.pool));
    const most = unionOf(all);
    const actual = billed.get(requestId);
    const between = (what: 'input' | 'output') => actual && least[what] <= actual[what] && actual[what] <= most[what];
    if (!between('input') || !between('output'))
      faults.push(`${requestId}: journals ${JSON.stringify({ least, most })}, bill ${JSON.stringify(actual)}`);
  }
  const known = Map.groupBy(receipts, (receipt) => receipt.request_id);
  for (const one of rows) {
    const mine = known.get(one.request_id) ?? [];
    if (mine.length === 0 && one.input + one.output > 0) faults.push(`${one.request_id} is billed without a receipt`);
    if (mine.some(({ tenant }) => tenant !== one.tenant))
      faults.push(`${one.request_id} is billed to ${one.tenant}: ${JSON.stringify(mine)}`);
    if (mine.length === 1 && mine[0]?.pool_id !== one.pool && mine[0]?.outcome === 'completed')
      faults.push(`${one.request_id} is billed for ${one.pool}: ${JSON.stringify(mine)}`);
    if (one.cached_input > one.input) faults.push(`${one.request_id} has more cached tokens than tokens`);
  }
  return faults;
}

/** Each position of each choice that any of them has, and the prompt. */
function unionOf(receipts: readonly Receipt[]): Tokens {
  const bills = receipts.map(billOf);
  const choices = Math.max(0, ...bills.map(({ positions = [] }) => positions.length));
  const released = Array.from({ length: choices }, (_, i) =>
    Math.max(...bills.map(({ positions = [] }) => positions[i] ?? 0)),
  );
  return {
    input: Math.max(0, ...bills.map(({ inputTokens }) => inputTokens)),
    output: released.reduce((sum, one) => sum + one, 0),
  };
}

function notExportedOnce(rows: readonly Row[], usage: readonly Row[]): string[] {
  const shown = (all: readonly Row[]) => all.map((one) => JSON.stringify(row.parse(one))).sort();
  const [billed, exported] = [shown(rows), shown(usage)];
  return billed.join() === exported.join()
    ? []
    : [`${billed.length} rows are billed, ${exported.length} exported, or they differ`];
}

/** A request that was answered is billed what its client was told, however often it was tried. */
function notAsTold(billed: ReadonlyMap<string, Tokens>, told: readonly Told[]): string[] {
  return told.flatMap(({ requestId, promptTokens, completionTokens }) => {
    const actual = billed.get(requestId);
    return actual?.input === promptTokens && actual.output === completionTokens
      ? []
      : [`${requestId}: told ${promptTokens} and ${completionTokens}, billed ${JSON.stringify(actual)}`];
  });
}

function ofTenant(
  { name, keyed, lifetimeTokens, tenant }: PlannedTenant,
  rows: readonly Row[],
  keys: ReadonlySet<string>,
  all: (text: string) => unknown[],
): string[] {
  const mine = rows.filter((one) => one.tenant === tenant.id);
  const usedThrough = (last: number) =>
    mine.filter(({ sequence }) => sequence <= last).reduce((sum, { input, output }) => sum + input + output, 0);
  const used = usedThrough(Number.POSITIVE_INFINITY);
  const meters = z.array(meter).parse(
    all(
      `SELECT settled, through FROM meters JOIN limits ON limits.id = meters.limit_id AND limits.tenant = meters.tenant
       WHERE limits.tenant = '${tenant.id}' AND limits.metric = 'tokens' AND limits.window = 'lifetime'`,
    ),
  );
  return [
    ...(used > lifetimeTokens ? [`${name} used ${used} of ${lifetimeTokens}`] : []),
    ...meters
      .filter(({ settled, through }) => settled !== usedThrough(through))
      .map(({ settled, through }) => `${name}: the meter says ${settled}, the rows ${usedThrough(through)}`),
    ...mine
      .filter((one) => keyed && !keys.has(requestOf(one.request_id)))
      .map((one) => `${name}: ${one.request_id} stands under no key`),
  ];
}

/** What is kept under keys is counted right. */
function miscounted(all: (text: string) => unknown[]): string[] {
  const counted = all('SELECT id, kept_records, kept_answer_bytes FROM tenants ORDER BY id');
  const kept = all(
    `SELECT tenants.id, count(idempotency.id) AS kept_records, coalesce(sum(length(answer)), 0) AS kept_answer_bytes
     FROM tenants LEFT JOIN idempotency ON idempotency.tenant = tenants.id GROUP BY tenants.id ORDER BY tenants.id`,
  );
  const [one, other] = [JSON.stringify(counted), JSON.stringify(kept)];
  return one === other ? [] : [`kept under keys: counted ${one}, there ${other}`];
}
