// A pool process makes itself known to a gateway that was started without it, and again after it was killed.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../test/support/eventually.ts';
import { FleetGateway } from '../test/support/fleetGateway.ts';
import { freePort } from '../test/support/freePort.ts';
import { type PagedPool, startPagedPool } from '../test/support/pagedPool.ts';

let gateway: FleetGateway;
const pools: PagedPool[] = [];
beforeEach(async () => {
  gateway = await FleetGateway.start([]);
});
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
  await gateway.close();
});

it('a pool announces itself, serves, and announces itself again when it was killed', async () => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const enrolment = { id: 'far', allowed_origins: [url] };
  const { key } = await gateway.admin<{ key: { id: string; secret_hex: string } }>('POST', '/pools', enrolment);
  expect((await gateway.complete('is anybody there?', 4)).status).toBe(404); // nobody has heard of the model

  const announce = { gateway: new URL(gateway.host.baseURL).origin, url, intervalMs: 200 };
  const keys = [{ id: key.id, secretHex: key.secret_hex }];
  const pool = await startPagedPool({ section: { poolId: 'far', port, keys, announce } });
  pools.push(pool);
  const announced = () => pool.log.filter((line) => line.includes('"announced"')).length;
  const serves = async () => (await gateway.complete('is anybody there?', 4)).status === 200;
  await eventually('it serves', serves);
  expect(await gateway.admin('GET', '/pools/far')).toMatchObject({ ready: true, state: 'warm', url });

  process.kill(pool.supervisor.pid ?? 0, 'SIGKILL');
  await eventually('it has announced itself again', async () => announced() === 2);
  await eventually('it serves again', serves, 500); // it is asked at once, not when a pause of seconds ends
});

it('a pool whose gateway refuses it says why, once, and serves those who know it', async () => {
  const announce = { gateway: new URL(gateway.host.baseURL).origin, url: 'http://127.0.0.1:9', intervalMs: 100 };
  const pool = await startPagedPool({ section: { announce } });
  pools.push(pool);
  const failed = () => pool.log.filter((line) => line.includes('"announcement_failed"'));
  await eventually('it is told', async () => failed().length > 0);
  expect(failed()[0]).toContain('not enrolled');
  await sleep(500);
  expect(failed()).toHaveLength(1);
  expect((await fetch(`${pool.address.url}/health/ready`)).status).toBe(200);
});
