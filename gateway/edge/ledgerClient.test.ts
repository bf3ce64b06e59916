// How a command fares whose object can't be reached: what the platform says of an error decides whether it is repeated, and what the client
// hears. Such errors can't be had on demand from a real object; what objects do is in test/edge.
import { describe, expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import type { CommandName, ObjectNamespace, TenantRpc } from './cloudflare.ts';
import { LedgerClient } from './ledgerClient.ts';

const TENANT = 'proj_000000000000000000000001';
const settle = {
  tenant: TENANT,
  requestId: 'r1',
  bill: { inputTokens: 1, cachedInputTokens: 0, outputTokens: 1, outcome: 'completed' as const },
  nowMs: 0,
};

/** Fails so many times with such an error, then settles. */
function failing(times: number, told: { retryable?: boolean; overloaded?: boolean }) {
  const calls: { object: object; name: CommandName }[] = [];
  const tenants: ObjectNamespace<TenantRpc> = {
    idFromName: (name) => ({ name }),
    get: (object) => ({
      async run(name) {
        calls.push({ object, name });
        if (calls.length <= times) throw Object.assign(new Error('the object is gone'), told);
        return { ok: false, message: 'full' };
      },
      leave: async () => {},
      feed: async () => {},
    }),
  };
  return { calls, ledger: new LedgerClient(tenants, { ...systemClock, sleep: async () => {} }) };
}

describe('a command', () => {
  test('goes to the object of the tenant whom it names', async () => {
    const { calls, ledger } = failing(0, {});
    await ledger.settle(settle).catch(() => {});
    await ledger.keys('proj_other').catch(() => {});
    expect(calls).toEqual([
      { object: { name: TENANT }, name: 'settle' },
      { object: { name: 'proj_other' }, name: 'keys' },
    ]);
  });

  test('that may be repeated is, by a new stub, a bounded number of times', async () => {
    const twice = failing(2, { retryable: true });
    await expect(twice.ledger.settle(settle)).rejects.toMatchObject({ spec: { message: 'full' } });
    expect(twice.calls).toHaveLength(3);
    const always = failing(99, { retryable: true });
    await expect(always.ledger.settle(settle)).rejects.toMatchObject({ spec: { status: 503, code: 'overloaded' } });
    expect(always.calls).toHaveLength(3);
  });

  test('that may not is told as retryable by the client, once', async () => {
    const { calls, ledger } = failing(99, { retryable: true });
    await expect(ledger.deleteKey(TENANT, 'key_1')).rejects.toMatchObject({ spec: { status: 503 } });
    expect(calls).toHaveLength(1);
  });

  test('is never repeated at an object that is overloaded', async () => {
    const { calls, ledger } = failing(99, { retryable: true, overloaded: true });
    await expect(ledger.settle(settle)).rejects.toMatchObject({ spec: { status: 503, code: 'overloaded' } });
    expect(calls).toHaveLength(1);
  });

  test('that failed by a bug of ours stays one', async () => {
    const { ledger } = failing(99, {});
    await expect(ledger.settle(settle)).rejects.toThrow('the object is gone');
  });
});
