// Idempotency keys on the Worker and its Durable Objects, in workerd, whose process ends with what runs in it.
import { EdgeRig } from '../support/edgeRig.ts';
import { eventually } from '../support/eventually.ts';
import { idempotencySuite } from '../support/idempotencySuite.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

/** Soon enough for a test. */
const LOOK_AFTER_MS = 300;

idempotencySuite('idempotency keys at the edge', async (limits) => {
  const pool = new ScriptedPool();
  await pool.start();
  const client = await EdgeRig.start(pool, { limits, lookAfterMs: LOOK_AFTER_MS });
  return {
    client,
    pool,
    async restart() {
      await client.halt();
      await eventually('the pool has noticed', async () => pool.running === 0);
      pool.age(60_000); // for so long a relay that lived might have gone on elsewhere
      await client.boot();
    },
    async close() {
      await client.stop();
      await pool.kill();
    },
  };
});
