// Ledgers as they look after long use, made in minutes: one tenant is made as the gateway makes it, with a key and a daily quota, and copied
// by SQL as often as asked, each copy with a key of its own; settled requests are written by SQL into the ledger and the usage table, a
// few seconds apart over the days before today. The indexes are the gateway's own, and are there while it is filled.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LocalAsyncSql } from '../../gateway/asyncSql.ts';
import { parseSection } from '../../gateway/config.ts';
import { SqlDirectory } from '../../gateway/directory/sqlDirectory.ts';
import { drawId } from '../../gateway/ids.ts';
import { drawApiKey, hashKey } from '../../gateway/keys/apiKey.ts';
import { keyringOf } from '../../gateway/keys/secrets.ts';
import { ENTRIES_PER_RUN } from '../../gateway/ledger/entryRuns.ts';
import { SqlLedger } from '../../gateway/ledger/sqlLedger.ts';
import { MIGRATIONS } from '../../gateway/migrations.ts';
import { openSecrets } from '../../gateway/secrets.ts';
import { openDatabase } from '../../gateway/sqlite.ts';

const DAY_MS = 86_400_000;
/** Settled requests lie so many days back at most, the last one yesterday: an index must hold them all, a quota's window none. */
const DAYS = 30;
const random = (count: number) => randomBytes(count);

/** Fills a data folder that no gateway has opened yet. The tenants' keys. */
export async function fill(dataDir: string, tenants: number, rows: number): Promise<string[]> {
  const keyring = keyringOf(openSecrets(parseSection({ dataDir }), random));
  const path = join(dataDir, 'gateway.sqlite');
  const store = openDatabase(path, 'NORMAL', MIGRATIONS);
  const ledger = new SqlLedger(store);
  const directory = new SqlDirectory(new LocalAsyncSql(store), () => {});
  const ids = Array.from({ length: tenants }, () => drawId('proj', random));
  const keys = ids.map((id) => drawApiKey(id, keyring.tagSecret, random));
  const [model = '', key = ''] = [ids[0], keys[0]];
  const nowMs = Date.now();
  await directory.createProject({ id: model, name: 'bench', createdAtMs: nowMs, archivedAtMs: null }, random(32));
  await ledger.openTenant(model);
  const record = { serviceAccountId: null, name: 'bench', redacted: 'sk-', createdAtMs: nowMs, lastUsedAtMs: nowMs };
  await ledger.addKey(
    { ...record, id: `key_${model}`, tenant: model, expiresAtMs: null, models: null },
    hashKey(key, keyring.newestPepper),
  );
  const quota = { metric: 'tokens', window: 'day', limit: 1_000_000_000, models: null, timeZone: 'UTC' } as const;
  await ledger.putLimits(model, [{ keyId: null, set: 'token_quotas', rules: [quota] }], nowMs);
  store.close();

  const db = new DatabaseSync(path);
  db.exec('PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN');
  db.exec('CREATE TEMP TABLE copies (copy TEXT PRIMARY KEY, copy_hash TEXT NOT NULL) WITHOUT ROWID');
  const copy = db.prepare('INSERT INTO copies VALUES (?, ?)');
  for (const [i, id] of ids.entries()) if (i > 0) copy.run(id, hashKey(keys[i] ?? '', keyring.newestPepper).hash);
  // The template's rows, each with the copy's own values where they must differ.
  const own: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    projects: { id: 'copy' },
    cache_salts: { project: 'copy', salt: 'randomblob(32)' },
    tenants: { id: 'copy' },
    keys: { id: "'key_' || copy", tenant: 'copy' },
    key_hashes: { hash: 'copy_hash', key_id: "'key_' || copy" },
    limits: { tenant: 'copy' },
    meters: { tenant: 'copy' },
  };
  for (const [table, changed] of Object.entries(own)) {
    const columns = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all();
    const values = columns.map(({ name }) => changed[String(name)] ?? `"${name}"`);
    db.exec(`INSERT INTO ${table} SELECT ${values.join(', ')} FROM copies, (SELECT * FROM ${table} LIMIT 1)`);
  }
  if (rows > 0) fillRows(db, rows, nowMs);
  db.exec('COMMIT');
  db.close();
  return keys;
}

/** Of ten tenants in turn, as the ledger settles them and the usage table is fed. */
function fillRows(db: DatabaseSync, rows: number, nowMs: number): void {
  const stepMs = ((DAYS - 1) * DAY_MS) / rows;
  const atMs = `CAST(${nowMs - DAY_MS} - (${rows} - n) * ${stepMs} AS INTEGER)`;
  db.exec(`
    CREATE TEMP TABLE payers (number INTEGER PRIMARY KEY, payer TEXT NOT NULL);
    INSERT INTO payers SELECT row_number() OVER () - 1, id FROM tenants LIMIT 10;
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${rows})
    INSERT INTO entries (request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms)
      SELECT printf('req_%012x%012x', ${atMs}, n), payer, 'key_' || payer, 'bench', 'pool-bench', 24, 0, 8, 'completed', ${atMs}, ${atMs}
      FROM numbers CROSS JOIN payers ON payers.number = n % (SELECT count(*) FROM payers);
    INSERT INTO usage (request_id, project, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms)
      SELECT request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms, settled_ms
      FROM entries ORDER BY sequence;
    UPDATE acknowledged SET sequence = ${rows};
  `);
  const index = db.prepare(
    `INSERT INTO indexed_entries SELECT ?, tenant, reserved_ms, sequence FROM entries WHERE sequence BETWEEN ? AND ?
     ORDER BY tenant, reserved_ms, sequence`,
  );
  const describe = db.prepare(
    `INSERT INTO entry_runs SELECT ?, min(sequence), max(sequence), min(reserved_ms), max(reserved_ms), 1 FROM entries
     WHERE sequence BETWEEN ? AND ?`,
  );
  for (let run = 1; run * ENTRIES_PER_RUN <= rows; run++) {
    const range = [(run - 1) * ENTRIES_PER_RUN + 1, run * ENTRIES_PER_RUN];
    index.run(run, ...range);
    describe.run(run, ...range);
  }
}
