// A small storm over real processes (`npm run chaos` is the large one): whatever is killed, the bill is what the journals say, no hold is
// left, no limit is passed, and a request under a key is billed once. And that the books would show it if it were not so.
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { storm } from './storm.ts';

const SEED = Number(process.env.HEARTH_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

test('gateway and pools are killed in the middle of a hundred requests, and the books agree', async () => {
  console.log(`chaos: seed ${SEED}`);
  const kills = { gatewayKills: 2, poolKills: 2 };
  const report = await storm({
    ...{ seed: SEED, requests: 120, concurrency: 16, ...kills, model: 'bytes', say: () => {} },
    spoil: (path) => {
      const db = new DatabaseSync(path);
      db.exec(
        'UPDATE entries SET output = output + 1 WHERE sequence = (SELECT max(sequence) FROM entries WHERE output > 0)',
      );
      db.close();
    },
  });
  expect(report.faults, `seed ${SEED}`).toEqual([]);
  expect(report.endings.wrong).toBe(0);
  expect(report.endings.answered).toBeGreaterThan(40);
  expect(report.spoiled.length, 'a row that was changed is seen').toBeGreaterThan(0);
});
