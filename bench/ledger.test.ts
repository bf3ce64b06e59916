// The ledger's bench at smoke size: both arms are measured.
import { expect, test } from 'vitest';
import { measureLedger } from './ledger.ts';

test('the bench measures a ledger without and with limits', async () => {
  const figures = await measureLedger(20, 1);
  expect(figures.map(({ limits }) => limits)).toEqual([0, 6]);
  for (const { admitUs, settleUs } of figures) expect(Math.min(admitUs, settleUs)).toBeGreaterThan(0);
});
