// Idempotency keys on the Node host, as its own process that is killed.
import { GatewayProcess } from '../test/support/gatewayProcess.ts';
import { SETTINGS } from '../test/support/gatewayRig.ts';
import { idempotencySuite } from '../test/support/idempotencySuite.ts';
import { ScriptedPool } from '../test/support/scriptedPool.ts';

idempotencySuite('idempotency keys on Node', async (settings) => {
  const pool = new ScriptedPool();
  await pool.start();
  const { chatMaxTokens: _chat, completionMaxTokens: _completion, ...limits } = { ...SETTINGS, ...settings };
  const client = await GatewayProcess.start([pool], { limits });
  return {
    client,
    pool,
    async restart() {
      await client.kill();
      await client.boot();
    },
    async close() {
      await client.stop();
      await pool.kill();
    },
  };
});
