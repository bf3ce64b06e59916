// Which receipts agree with the bill, as a table.
import { expect, test } from 'vitest';
import type { Receipt } from '../../pool/wire/events.ts';
import type { LedgerEntry } from '../ledger/port.ts';
import { differences } from './reconcile.ts';

const receipt: Receipt = {
  ...{ request_id: 'req_1', pool_id: 'a', tenant: 't', model: 'm', prompt_tokens: 10, cached_tokens: 4 },
  ...{ choices: [3, 2], outcome: 'completed', started_at_ms: 0, updated_at_ms: 0 },
};
const entry: LedgerEntry = {
  ...{ sequence: 1, requestId: 'req_1', tenant: 't', keyId: 'k', model: 'm', pool: 'a', outcome: 'completed' },
  ...{ inputTokens: 10, cachedInputTokens: 4, outputTokens: 5, price: null, costNanoUsd: 0 },
  ...{ reservedAtMs: 0, settledAtMs: 0 },
};

test.each<[string, Partial<Receipt>, Partial<LedgerEntry> | null, string | null]>([
  ['as billed', {}, {}, null],
  ['not ended yet', { outcome: 'running' }, null, null],
  ['without a row', {}, null, 'unsettled'],
  ['of another number of tokens', { choices: [3, 3] }, {}, 'differs'],
  ['of another pool', {}, { pool: 'b' }, 'differs'],
  ['of a pool that died under a request, which went on at another', { outcome: 'lost' }, { pool: 'b' }, null],
  ['of a pool that the request was taken from', { outcome: 'cancelled', choices: [1] }, { pool: 'b' }, null],
  [
    'of a pool that died under the request of another tenant',
    { outcome: 'lost' },
    { pool: 'b', tenant: 'u' },
    'differs',
  ],
  ['of a pool that died, and has the bill', { outcome: 'lost', choices: [1, 1] }, { outputTokens: 3 }, 'differs'],
])('a receipt %s', (_, told, billed, expected) => {
  const entries = billed ? [{ ...entry, ...billed }] : [];
  expect(differences([{ ...receipt, ...told }], entries).map(({ kind }) => kind)).toEqual(expected ? [expected] : []);
});
