// No command of the ledger walks through what was ever settled: as many rows as there may be, a request takes as long as with none. The plans are
// SQLite's own, without statistics, as a database has them that nobody analysed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, expect, test } from 'vitest';
import { MIGRATIONS } from '../migrations.ts';
import type { Sql } from '../sql.ts';
import { openDatabase } from '../sqlite.ts';
import { SqlLedger } from './sqlLedger.ts';

const folder = mkdtempSync(join(tmpdir(), 'hearth-plans-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'ledger.sqlite');

/** Every statement that the ledger prepares when it is opened: those of its commands. */
function statements(): string[] {
  const db = openDatabase(path, 'NORMAL', MIGRATIONS);
  const texts: string[] = [];
  const listening: Sql = new Proxy(db, {
    get(target, name) {
      if (name === 'prepare')
        return (text: string) => {
          texts.push(text);
          return target.prepare(text);
        };
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  new SqlLedger(listening);
  db.close();
  return texts;
}

const texts = statements();

test('there are statements to look at', () => {
  expect(texts.length).toBeGreaterThan(40);
  expect(texts.some((text) => text.includes('FROM acknowledged'))).toBe(true);
});

test.each(texts)('%s', (text) => {
  const db = new DatabaseSync(path);
  const plan = db
    .prepare(`EXPLAIN QUERY PLAN ${text}`)
    .all()
    .map(({ detail }) => String(detail));
  db.close();
  // The first in the order of an index is no walk, nor is a count of the holds that are open.
  if (/ LIMIT 1$/.test(text) && plan.every((step) => !/^SCAN (?!\w+ USING INDEX)/.test(step))) return;
  expect(plan.filter((step) => /SCAN (entries|usage|idempotency|meters|keys|key_hashes|tenants)\b/.test(step))).toEqual(
    [],
  );
});
