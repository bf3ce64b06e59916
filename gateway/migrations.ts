// The schema as numbered steps. A step that has shipped is never edited; the next one is appended. Each says what it does to a ledger
// and what to the stores that all tenants share: on Node both stand in one database, at the edge each tenant's ledger in its own Durable
// Object and the rest in D1. Meters can be recomputed from entries and holds; everything else is the truth itself.

interface SchemaStep {
  ledger?: string;
  /** Directory, pools, public prefixes, usage, prices, admin keys, the audit log. */
  central?: string;
}

const STEPS: readonly SchemaStep[] = [
  {
    central: `
    CREATE TABLE projects (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL, archived_ms INTEGER
    ) STRICT;
    CREATE TABLE service_accounts (
      id TEXT PRIMARY KEY, project TEXT NOT NULL REFERENCES projects (id), name TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX service_accounts_by_project ON service_accounts (project, id);

    CREATE TABLE usage (
      sequence INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, key_id TEXT NOT NULL,
      model TEXT NOT NULL, pool TEXT NOT NULL, input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
      outcome TEXT NOT NULL, reserved_ms INTEGER NOT NULL, settled_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX usage_by_time ON usage (reserved_ms);
    `,
    ledger: `
    CREATE TABLE tenants (id TEXT PRIMARY KEY, archived INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
      id TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants (id), service_account TEXT, name TEXT NOT NULL,
      redacted TEXT NOT NULL, pepper_version INTEGER NOT NULL, hash TEXT NOT NULL UNIQUE,
      created_ms INTEGER NOT NULL, last_used_ms INTEGER, expires_ms INTEGER
    ) STRICT;
    CREATE INDEX keys_by_tenant ON keys (tenant, id);
    CREATE TABLE quotas (
      id TEXT NOT NULL, tenant TEXT NOT NULL REFERENCES tenants (id), position INTEGER NOT NULL, window TEXT NOT NULL,
      limit_tokens INTEGER NOT NULL, models TEXT, time_zone TEXT NOT NULL, PRIMARY KEY (tenant, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meters (
      tenant TEXT NOT NULL, quota TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER,
      settled INTEGER NOT NULL CHECK (settled >= 0), held INTEGER NOT NULL CHECK (held >= 0),
      PRIMARY KEY (tenant, quota, start_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE holds (
      request_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL,
      tokens INTEGER NOT NULL CHECK (tokens >= 0), reserved_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL,
      expires_ms INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('held', 'unresolved'))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX holds_by_tenant ON holds (tenant, reserved_ms);
    CREATE INDEX holds_by_expiry ON holds (state, expires_ms);
    CREATE TABLE entries (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, key_id TEXT NOT NULL,
      model TEXT NOT NULL, pool TEXT NOT NULL, input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
      outcome TEXT NOT NULL, reserved_ms INTEGER NOT NULL, settled_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX entries_by_tenant ON entries (tenant, reserved_ms);
    CREATE TABLE outbox (sequence INTEGER PRIMARY KEY) STRICT;
    `,
  },
  {
    central: `
    CREATE TABLE cache_salts (
      project TEXT PRIMARY KEY REFERENCES projects (id), salt BLOB NOT NULL CHECK (length(salt) = 32)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO cache_salts SELECT id, randomblob(32) FROM projects WHERE archived_ms IS NULL;
    CREATE TABLE service_policies (
      project TEXT PRIMARY KEY REFERENCES projects (id), weight REAL NOT NULL CHECK (weight > 0),
      kv_floor_share REAL NOT NULL CHECK (kv_floor_share BETWEEN 0 AND 1), cache_scope TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    central: `
    CREATE TABLE public_prefixes (id TEXT NOT NULL UNIQUE, declaration TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT;
    `,
  },
  {
    // One kind of limit, values of keys apart from keys, prices with holds and entries. Meters are made anew when they are asked for.
    ledger: `
    ALTER TABLE tenants ADD COLUMN models TEXT;
    ALTER TABLE tenants ADD COLUMN latest_second INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE limits (
      tenant TEXT NOT NULL REFERENCES tenants (id), key_id TEXT NOT NULL, set_name TEXT NOT NULL, position INTEGER NOT NULL,
      id TEXT NOT NULL, metric TEXT NOT NULL, window TEXT NOT NULL, amount INTEGER NOT NULL CHECK (amount >= 0), models TEXT,
      time_zone TEXT NOT NULL, PRIMARY KEY (tenant, key_id, set_name, position), UNIQUE (tenant, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO limits SELECT tenant, '', 'token_quotas', position, id, 'tokens', window, limit_tokens, models, time_zone FROM quotas;
    DROP TABLE quotas;
    DROP TABLE meters;
    CREATE TABLE meters (
      tenant TEXT NOT NULL, limit_id TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER,
      settled INTEGER NOT NULL CHECK (settled >= 0), held INTEGER NOT NULL CHECK (held >= 0), ring BLOB,
      PRIMARY KEY (tenant, limit_id, start_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_hashes (
      hash TEXT PRIMARY KEY, key_id TEXT NOT NULL, pepper_version INTEGER NOT NULL, good_until_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    INSERT INTO key_hashes SELECT hash, id, pepper_version, NULL FROM keys;
    CREATE INDEX key_hashes_by_key ON key_hashes (key_id);
    CREATE TABLE keys_with_models (
      id TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants (id), service_account TEXT, name TEXT NOT NULL,
      redacted TEXT NOT NULL, created_ms INTEGER NOT NULL, last_used_ms INTEGER, expires_ms INTEGER, models TEXT
    ) STRICT;
    INSERT INTO keys_with_models
      SELECT id, tenant, service_account, name, redacted, created_ms, last_used_ms, expires_ms, NULL FROM keys;
    DROP TABLE keys;
    ALTER TABLE keys_with_models RENAME TO keys;
    CREATE INDEX keys_by_tenant ON keys (tenant, id);
    ALTER TABLE holds RENAME COLUMN tokens TO input_tokens;
    ALTER TABLE holds ADD COLUMN output_tokens INTEGER NOT NULL DEFAULT 0 CHECK (output_tokens >= 0);
    ALTER TABLE holds ADD COLUMN price_version TEXT;
    ALTER TABLE holds ADD COLUMN input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE holds ADD COLUMN cached_input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE holds ADD COLUMN output_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE holds ADD COLUMN booked_second INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entries ADD COLUMN price_version TEXT;
    ALTER TABLE entries ADD COLUMN input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entries ADD COLUMN cached_input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entries ADD COLUMN output_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entries ADD COLUMN cost_nano INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entries ADD COLUMN booked_second INTEGER NOT NULL DEFAULT 0;
    `,
    central: `
    CREATE TABLE prices (
      id TEXT PRIMARY KEY, model TEXT NOT NULL, input_price INTEGER NOT NULL, cached_input_price INTEGER NOT NULL,
      output_price INTEGER NOT NULL, effective_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (model, effective_ms)
    ) STRICT;
    CREATE TABLE admin_keys (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, redacted TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, pepper_version INTEGER NOT NULL,
      created_ms INTEGER NOT NULL, last_used_ms INTEGER, expires_ms INTEGER
    ) STRICT;
    CREATE TABLE audit_log (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL, type TEXT NOT NULL,
      actor TEXT NOT NULL, project TEXT, target TEXT
    ) STRICT;
    CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
    CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
    ALTER TABLE usage ADD COLUMN price_version TEXT;
    ALTER TABLE usage ADD COLUMN input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN cached_input_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN output_price INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN cost_nano INTEGER NOT NULL DEFAULT 0;
    `,
  },
  {
    central: `
    CREATE TABLE pools (
      id TEXT PRIMARY KEY, key_id TEXT NOT NULL, allowed_origins TEXT NOT NULL, created_ms INTEGER NOT NULL, announced TEXT,
      signed_ms INTEGER NOT NULL DEFAULT 0, heard_ms INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    `,
  },
  {
    // Idempotency keys: what stands under each, and the answers that are replayed, sealed.
    ledger: `
    CREATE TABLE idempotency (
      id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, key_hash TEXT NOT NULL, body_digest TEXT NOT NULL, request_id TEXT NOT NULL,
      attempts INTEGER NOT NULL, seed INTEGER NOT NULL, output_tokens INTEGER NOT NULL, billed_input INTEGER NOT NULL,
      billed_positions TEXT NOT NULL, expires_ms INTEGER NOT NULL, answer BLOB, UNIQUE (tenant, key_hash)
    ) STRICT;
    CREATE INDEX idempotency_by_expiry ON idempotency (expires_ms);
    CREATE INDEX idempotency_by_tenant ON idempotency (tenant, expires_ms);
    CREATE INDEX idempotency_answers ON idempotency (tenant, expires_ms) WHERE answer IS NOT NULL;
    ALTER TABLE holds ADD COLUMN key_hash TEXT;
    CREATE INDEX holds_by_key_hash ON holds (tenant, key_hash) WHERE key_hash IS NOT NULL;
    ALTER TABLE tenants ADD COLUMN kept_records INTEGER NOT NULL DEFAULT 0 CHECK (kept_records >= 0);
    ALTER TABLE tenants ADD COLUMN kept_answer_bytes INTEGER NOT NULL DEFAULT 0 CHECK (kept_answer_bytes >= 0);
    `,
  },
  {
    // Requests that go on at another pool: how often, since when they are at this one, and what those before it had released.
    ledger: `
    ALTER TABLE holds ADD COLUMN leg INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE holds ADD COLUMN leg_ms INTEGER;
    ALTER TABLE holds ADD COLUMN released TEXT;
    `,
  },
  {
    // Administrators' actions that have begun and not ended, and how those ended that are in the log.
    central: `
    CREATE TABLE audit_intents (
      id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, type TEXT NOT NULL, actor TEXT NOT NULL, project TEXT, target TEXT
    ) STRICT;
    ALTER TABLE audit_log ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done';
    `,
  },
  {
    // The outbox as a mark: entries are acknowledged in the order in which they were made, so what is behind the last one is what is left.
    // Open holds are few, and gone through each second anyway: an index for those past their expiry cost every request more.
    ledger: `
    CREATE TABLE acknowledged (sequence INTEGER NOT NULL) STRICT;
    INSERT INTO acknowledged
      SELECT coalesce((SELECT min(sequence) - 1 FROM outbox), (SELECT max(sequence) FROM entries), 0);
    DROP TABLE outbox;
    DROP INDEX holds_by_expiry;
    `,
  },
  {
    // Less is written per request. Holds stand by their tenant, so that their own order finds a tenant's; meters have what is settled alone, since
    // what is held is what the holds say; and as entries are never deleted, their sequence ascends without a record of its highest.
    ledger: `
    CREATE TABLE open_holds (
      tenant TEXT NOT NULL, request_id TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL,
      input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0), output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
      price_version TEXT, input_price INTEGER NOT NULL, cached_input_price INTEGER NOT NULL, output_price INTEGER NOT NULL,
      reserved_ms INTEGER NOT NULL, booked_second INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('held', 'unresolved')), key_hash TEXT, leg INTEGER NOT NULL DEFAULT 0, leg_ms INTEGER,
      released TEXT, PRIMARY KEY (tenant, request_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO open_holds SELECT tenant, request_id, key_id, model, pool, input_tokens, output_tokens, price_version, input_price,
      cached_input_price, output_price, reserved_ms, booked_second, deadline_ms, expires_ms, state, key_hash, leg, leg_ms, released FROM holds;
    DROP TABLE holds;
    ALTER TABLE open_holds RENAME TO holds;
    CREATE INDEX holds_by_key_hash ON holds (tenant, key_hash) WHERE key_hash IS NOT NULL;
    CREATE TABLE settled_meters (
      tenant TEXT NOT NULL, limit_id TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER,
      settled INTEGER NOT NULL CHECK (settled >= 0), ring BLOB, PRIMARY KEY (tenant, limit_id, start_ms)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO settled_meters SELECT tenant, limit_id, start_ms, end_ms, settled, NULL FROM meters WHERE ring IS NULL;
    DROP TABLE meters;
    ALTER TABLE settled_meters RENAME TO meters;
    CREATE TABLE kept_entries (
      sequence INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, key_id TEXT NOT NULL,
      model TEXT NOT NULL, pool TEXT NOT NULL, input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
      outcome TEXT NOT NULL, reserved_ms INTEGER NOT NULL, settled_ms INTEGER NOT NULL, price_version TEXT,
      input_price INTEGER NOT NULL DEFAULT 0, cached_input_price INTEGER NOT NULL DEFAULT 0, output_price INTEGER NOT NULL DEFAULT 0,
      cost_nano INTEGER NOT NULL DEFAULT 0, booked_second INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO kept_entries SELECT sequence, request_id, tenant, key_id, model, pool, input, cached_input, output, outcome, reserved_ms,
      settled_ms, price_version, input_price, cached_input_price, output_price, cost_nano, booked_second FROM entries ORDER BY sequence;
    DROP TABLE entries;
    ALTER TABLE kept_entries RENAME TO entries;
    CREATE INDEX entries_by_tenant ON entries (tenant, reserved_ms);
    `,
  },
  {
    // What a request writes stands beside what others write: entries are indexed by tenant in sorted runs, and meters follow those, each saying
    // through which entry it counts.
    ledger: `
    CREATE TABLE entry_runs (
      run INTEGER PRIMARY KEY, first INTEGER NOT NULL, through INTEGER NOT NULL, earliest_ms INTEGER NOT NULL,
      latest_ms INTEGER NOT NULL, counted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE indexed_entries (
      run INTEGER NOT NULL, tenant TEXT NOT NULL, reserved_ms INTEGER NOT NULL, sequence INTEGER NOT NULL,
      PRIMARY KEY (run, tenant, reserved_ms, sequence)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO indexed_entries SELECT 1, tenant, reserved_ms, sequence FROM entries ORDER BY tenant, reserved_ms, sequence;
    INSERT INTO entry_runs
      SELECT 1, min(sequence), max(sequence), min(reserved_ms), max(reserved_ms), 1 FROM entries HAVING count(*) > 0;
    DROP INDEX entries_by_tenant;
    ALTER TABLE meters ADD COLUMN through INTEGER NOT NULL DEFAULT 0;
    UPDATE meters SET through = (SELECT coalesce(max(sequence), 0) FROM entries);
    `,
  },
];

/** Of a database that holds everything. */
export const MIGRATIONS: readonly string[] = STEPS.map(({ central = '', ledger = '' }) => central + ledger);
/** Of a database that holds ledgers alone. */
export const LEDGER_MIGRATIONS: readonly string[] = STEPS.map(({ ledger = '' }) => ledger);
/** Of a database that holds what all tenants share; '' where a step is the ledger's alone. */
export const CENTRAL_MIGRATIONS: readonly string[] = STEPS.map(({ central = '' }) => central);
