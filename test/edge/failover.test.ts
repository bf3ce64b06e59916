// A pool dies under a stream that a Worker relays: the stream goes on at another pool, or at the same one when it is back, though the tenant's
// object is woken meanwhile and asks the pool what became of the request.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EdgeRig } from '../support/edgeRig.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN_KEY, type Tenant } from '../support/gatewayClient.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

const a = new ScriptedPool('pool-a');
const b = new ScriptedPool('pool-b');
let rig: EdgeRig;
let tenant: Tenant;

beforeEach(async () => {
  a.script = {};
  await a.start();
  await b.start();
  // The object looks after the hold while its relay looks for a pool.
  rig = await EdgeRig.start(a, { others: [b], lookAfterMs: 100, limits: { failoverWaitMs: 10_000 } });
  tenant = await rig.tenant([{ window: 'lifetime', limit_tokens: 1000 }]);
});
afterEach(async () => {
  await rig.stop();
  await a.kill();
  await b.kill();
});

async function streamed(): Promise<string> {
  const body = { model: 'tiny', prompt: 'so', max_tokens: 6, stream: true };
  return (await rig.request('POST', '/v1/completions', { key: tenant.key, body })).text();
}

const textOf = (stream: string): string => [...stream.matchAll(/"text":"([^"]*)"/g)].map(([, text]) => text).join('');

/** Once: after two tokens, when they are on their way. */
function dyingOnce(then: () => Promise<void>): (position: number) => Promise<void> {
  let died = false;
  return async (position) => {
    if (died || position < 2) return;
    died = true;
    await sleep(50);
    await a.kill();
    await then();
  };
}

async function settledOnce(pool: string): Promise<void> {
  await eventually('the hold ends', async () => (await rig.limits(tenant.key))[0]?.held === 0);
  expect((await rig.limits(tenant.key))[0]).toMatchObject({ used: 8 });
  const path = '/v1/organization/usage/export?format=jsonl&start_time=0&end_time=4000000000';
  await eventually('one row is exported', async () => {
    const rows = (await (await rig.request('GET', path, { key: ADMIN_KEY })).text()).trim().split('\n').filter(Boolean);
    if (rows.length === 0) return false;
    expect(rows).toHaveLength(1);
    expect(rows[0]).toContain(pool);
    return true;
  });
}

test('it goes on at another pool', async () => {
  a.script = { beforeToken: dyingOnce(async () => {}) };
  const stream = await streamed();
  expect(textOf(stream)).toBe(' w0 w1 w2 w3 w4 w5');
  expect(stream).toContain('[DONE]');
  await settledOnce('pool-b');
});

test('it goes on at its own when that is back, though that says lost to the object that asks', async () => {
  await b.kill();
  a.script = {
    beforeToken: dyingOnce(async () => {
      await sleep(1000); // the alarm finds it gone
      a.script = { beforeToken: () => sleep(100) };
      await a.start();
    }),
  };
  const stream = await streamed();
  expect(textOf(stream)).toBe(' w0 w1 w2 w3 w4 w5');
  expect(stream).toContain('[DONE]');
  await settledOnce('pool-a');
});
