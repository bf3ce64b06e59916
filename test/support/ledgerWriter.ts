// A process that reserves and settles on a ledger without end, and says a line after each settlement: to be killed at any moment. Its log is
// carried by a thread meanwhile.
import { writeSync } from 'node:fs';
import { systemClock } from '../../gateway/clock.ts';
import { SqlLedger } from '../../gateway/ledger/sqlLedger.ts';
import { MIGRATIONS } from '../../gateway/migrations.ts';
import { keepLogShort } from '../../gateway/shortLog.ts';
import { openDatabase } from '../../gateway/sqlite.ts';

const db = openDatabase(process.argv[2] ?? '', 'NORMAL', MIGRATIONS);
const say = (event: string) => void writeSync(2, `${event}\n`);
void keepLogShort(db, {
  clock: { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms <= 1000 ? 1 : ms, signal) },
  log: { info: say, warn: say, error: say },
  signal: new AbortController().signal,
  pages: 100,
  fewPages: 20,
});
const ledger = new SqlLedger(db, { entriesPerRun: 7 });
const tenant = 'proj_writer';
const hash = { pepperVersion: 1, hash: '00'.repeat(32) };
const createdAtMs = Date.now();
await ledger.openTenant(tenant);
await ledger.addKey(
  {
    id: 'k',
    tenant,
    serviceAccountId: null,
    name: 'k',
    redacted: '',
    createdAtMs,
    lastUsedAtMs: null,
    expiresAtMs: null,
    models: null,
  },
  hash,
);
const rule = { metric: 'tokens', window: 'lifetime', limit: 1e12, models: null, timeZone: 'UTC' } as const;
await ledger.putLimits(tenant, [{ keyId: null, set: 'writer', rules: [rule] }], createdAtMs);
for (let n = 0; ; n++) {
  const nowMs = Date.now();
  const requestId = `r${n}`;
  const demand = { promptTokens: 10, promptExact: true, choices: 1, outputTokens: 20, outputFlexible: false };
  const times = { nowMs, deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 };
  await ledger.admit({ tenant, hashes: [hash], requestId, model: 'm', pool: 'p', demand, price: null, ...times });
  const bill = { inputTokens: 10, cachedInputTokens: 0, outputTokens: n % 20, outcome: 'completed' as const };
  await ledger.settle({ tenant, requestId, bill, nowMs });
  writeSync(1, `${requestId}\n`);
  if (n % 3 === 0) await ledger.tend();
}
