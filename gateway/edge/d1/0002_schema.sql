CREATE TABLE cache_salts (
  project TEXT PRIMARY KEY REFERENCES projects (id), salt BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT, WITHOUT ROWID;
INSERT INTO cache_salts SELECT id, randomblob(32) FROM projects WHERE archived_ms IS NULL;
CREATE TABLE service_policies (
  project TEXT PRIMARY KEY REFERENCES projects (id), weight REAL NOT NULL CHECK (weight > 0),
  kv_floor_share REAL NOT NULL CHECK (kv_floor_share BETWEEN 0 AND 1), cache_scope TEXT NOT NULL
) STRICT, WITHOUT ROWID;
