// A sleeping pool behind a gateway: clients wake it and are answered, those that can't wait are told when to come again, and the
// gateway is ready all the while.
import { afterEach, expect, it } from 'vitest';
import { eventually } from './support/eventually.ts';
import { FleetGateway } from './support/fleetGateway.ts';
import { ADMIN_KEY } from './support/gatewayClient.ts';
import { type PagedPool, startPagedPool } from './support/pagedPool.ts';
import { askPool } from './support/signedPoolClient.ts';

let pool: PagedPool;
let gateway: FleetGateway;
afterEach(async () => {
  await gateway.close();
  await pool.close();
});

it('wakes for its clients; more than may wait are refused with a time to retry', async () => {
  pool = await startPagedPool({ model: { wakeMs: 3000 }, section: { lifecycle: { wakeWaiting: 10 } } });
  const { url, poolId: id, keyId, secret } = pool.address;
  const secretHex = Buffer.from(secret).toString('hex');
  gateway = await FleetGateway.start([{ id, url, keyId, secretHex, models: ['bytes'], retired: false }]);
  const ready = async () => (await gateway.request('GET', '/readyz')).status === 200;
  await eventually('it is ready', ready);
  await gateway.complete('this makes the tenant', 1);
  expect((await askPool(pool.address, { path: '/pool/sleep', body: {} })).status).toBe(200);
  const asleep = async () => {
    const text = await (await gateway.request('GET', '/metrics', { key: ADMIN_KEY })).text();
    return text.includes(`hearth_gateway_pool_state{pool="${id}",state="asleep"} 1`);
  };
  await eventually('the gateway knows that it sleeps', asleep);
  expect(await ready()).toBe(true);

  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => gateway.complete(`client ${i}`, 5)));
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
  const refused = answers.filter(({ status }) => status === 503);
  expect(refused).toHaveLength(20);
  for (const { text, retryAfter } of refused) {
    expect(JSON.parse(text)).toMatchObject({ error: { code: 'no_pool_ready' } });
    expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
  }
  expect(pool.log.filter((line) => line.includes('"to":"waking"'))).toHaveLength(1);
  expect((await gateway.complete('and now?', 5)).status).toBe(200);
});
