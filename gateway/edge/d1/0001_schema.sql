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
