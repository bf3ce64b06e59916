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
