// What a database of an earlier Hearth becomes: projects get a cache of their own, archived ones none.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LocalAsyncSql } from '../asyncSql.ts';
import { MIGRATIONS } from '../migrations.ts';
import { openDatabase } from '../sqlite.ts';
import { DEFAULT_SERVICE_POLICY } from './port.ts';
import { SqlDirectory } from './sqlDirectory.ts';

test('projects from before caches had salts get one each; archived ones stay without', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const path = join(folder, 'x.sqlite');
  const old = openDatabase(path, 'NORMAL', MIGRATIONS.slice(0, 1));
  old.exec("INSERT INTO projects VALUES ('a', 'a', 1, NULL), ('b', 'b', 2, NULL), ('gone', 'c', 3, 4)");
  old.close();
  const db = openDatabase(path, 'NORMAL', MIGRATIONS);
  const directory = new SqlDirectory(new LocalAsyncSql(db), () => db.cutLog());
  const [a, b, gone] = await Promise.all(['a', 'b', 'gone'].map((id) => directory.service(id)));
  expect(a?.cacheSalt).toHaveLength(32);
  expect(b?.cacheSalt).toHaveLength(32);
  expect(b?.cacheSalt).not.toEqual(a?.cacheSalt);
  expect(gone).toEqual({ policy: DEFAULT_SERVICE_POLICY, cacheSalt: null });
  db.close();
  rmSync(folder, { recursive: true });
});
