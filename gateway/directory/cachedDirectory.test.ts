// What is remembered of a project is what was last put, also where it was asked for while that was on its way.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LocalAsyncSql } from '../asyncSql.ts';
import { systemClock } from '../clock.ts';
import { MIGRATIONS } from '../migrations.ts';
import type { Row, SqlValue } from '../sql.ts';
import { openDatabase } from '../sqlite.ts';
import { CachedDirectory } from './cachedDirectory.ts';
import { DEFAULT_SERVICE_POLICY } from './port.ts';

/** Its answers are on their way until they are let through, as those of a database across a network. */
class DistantSql extends LocalAsyncSql {
  arrived = Promise.resolve();

  override async look(text: string, ...values: readonly SqlValue[]): Promise<Row[]> {
    const rows = await super.look(text, ...values);
    await this.arrived;
    return rows;
  }
}

test('a policy or an archival that overtakes a question is what the next one is told', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  const db = openDatabase(join(folder, 'x.sqlite'), 'NORMAL', MIGRATIONS);
  const sql = new DistantSql(db);
  const remembered = { projects: 10, validMs: Number.POSITIVE_INFINITY };
  const open = () => new CachedDirectory(sql, () => {}, systemClock, remembered);
  await open().createProject({ id: 'a', name: 'a', createdAtMs: 1, archivedAtMs: null }, new Uint8Array(32));
  const heavier = { ...DEFAULT_SERVICE_POLICY, weight: 3 };
  const changes = [
    (directory: CachedDirectory) => directory.putServicePolicy('a', heavier),
    (directory: CachedDirectory) => directory.archiveProject('a', 2),
  ];
  for (const change of changes) {
    const directory = open();
    const gate = Promise.withResolvers<void>();
    sql.arrived = gate.promise;
    const asked = directory.service('a');
    await new Promise(setImmediate);
    await change(directory);
    gate.resolve();
    await asked;
    expect(await directory.service('a')).toEqual(await open().service('a'));
  }
  expect(await open().service('a')).toEqual({ policy: heavier, cacheSalt: null });
  db.close();
  rmSync(folder, { recursive: true });
});
