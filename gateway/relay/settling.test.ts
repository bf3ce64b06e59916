// When an answer waits for its bill: where another is booked at the same moment, under a key, or as the host wants it. Whether it waited or
// not, there is one bill; one that could not be booked is booked from the pool's journal.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';
import type { SettleCommand } from '../ledger/port.ts';

const SOON_MS = 100;

let rig: GatewayRig;
let tenant: Tenant;
/** Settlements wait until it is resolved. */
let gate: { opened: Promise<void>; open: () => void };

beforeEach(async () => {
  rig = await GatewayRig.start();
  tenant = await rig.tenant([{ window: 'day', limit_tokens: 10_000 }]);
  gate = newGate();
  const settle = rig.ledger.settle.bind(rig.ledger);
  vi.spyOn(rig.ledger, 'settle').mockImplementation(async (command: SettleCommand) => {
    await gate.opened;
    return settle(command);
  });
});
afterEach(async () => {
  gate.open();
  await rig.unheld();
  await rig.stop();
});

function newGate(): typeof gate {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

const ask = async (stream = false, idempotencyKey?: string): Promise<string> => {
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 3, stream };
  const key = tenant.key;
  const response = await rig.request('POST', '/v1/chat/completions', {
    ...{ key, body },
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  });
  expect(response.status).toBe(200);
  return response.text();
};
/** Whether it is told without waiting. */
const isToldSoon = (answer: Promise<string>): Promise<boolean> =>
  Promise.race([answer.then(() => true), rig.ports.clock.sleep(SOON_MS).then(() => false)]);

test.each([false, true])('alone it waits for nothing (stream: %s)', async (stream) => {
  expect(await isToldSoon(ask(stream))).toBe(true);
  expect(await rig.ledger.holds({ limit: 10 })).toHaveLength(1);
  gate.open();
  await rig.unheld();
  expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 3 }]);
});

test('what is asked of the ledger behind it sees its bill', async () => {
  gate.open();
  await ask();
  expect(await rig.ledger.limits(tenant.id, Date.now())).toMatchObject([{ held: 0, settled: expect.any(Number) }]);
  expect(await rig.ledger.outbox(10)).toHaveLength(1);
});

test.each([false, true])('while another is booked it waits for its own (stream: %s)', async (stream) => {
  await ask();
  const second = ask(stream);
  expect(await isToldSoon(second)).toBe(false);
  gate.open();
  await second;
  await rig.unheld();
  expect(await rig.entries()).toHaveLength(2);
});

test('under an idempotency key it waits', async () => {
  const answer = ask(false, 'key-1');
  expect(await isToldSoon(answer)).toBe(false);
  gate.open();
  await answer;
});

test('where the host wants it, it waits', async () => {
  vi.spyOn(rig.settler, 'settlesFirst', 'get').mockReturnValue(true);
  const answer = ask();
  expect(await isToldSoon(answer)).toBe(false);
  gate.open();
  await answer;
});

test.each([false, true])(
  'a bill that can’t be booked is told of, and booked once from the journal (stream: %s)',
  async (stream) => {
    gate.open();
    vi.mocked(rig.ledger.settle).mockRejectedValueOnce(new Error('database or disk is full'));
    await ask(stream);
    await rig.unheld();
    expect(rig.logged.join('')).toContain('"settle_failed"');
    expect(await rig.entries()).toMatchObject([{ outcome: 'completed', outputTokens: 3 }]);
  },
);

test('a client that takes nothing of a stream’s end hinders no bill, nor does one that fails crash anything', async () => {
  gate.open();
  vi.mocked(rig.ledger.settle).mockRejectedValueOnce(new Error('database or disk is full'));
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 3, stream: true };
  const response = await rig.request('POST', '/v1/chat/completions', { key: tenant.key, body });
  await rig.ports.clock.sleep(SOON_MS);
  await response.body?.cancel();
  await rig.unheld();
  expect(await rig.entries()).toHaveLength(1);
});
