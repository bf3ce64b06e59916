// The directory of pools on Node, by the conformance that both hosts pass; and that a pool which falls silent is out.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OUT_AFTER_MS } from '../../pool/wire/heartbeat.ts';
import { directoryConformance } from '../../test/support/directoryConformance.ts';
import { GatewayRig } from '../../test/support/gatewayRig.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';

let rig: GatewayRig;
beforeEach(async () => {
  rig = await GatewayRig.start();
});
afterEach(() => rig.stop());

describe('the directory on Node', () => {
  let watching: AbortController;
  beforeEach(() => {
    watching = new AbortController();
    void rig.ports.registry.run(watching.signal);
  });
  afterEach(() => watching.abort());
  directoryConformance(
    () => rig,
    () => rig.pool,
  );
});

test('a pool that misses its heartbeats is out, and back with the next', async () => {
  const far = new ScriptedPool('far');
  await far.start();
  try {
    const body = { id: 'far', allowed_origins: [far.url] };
    const { key } = await rig.admin<{ key: { id: string; secret_hex: string } }>('POST', '/pools', body);
    far.keyId = key.id;
    far.secretHex = key.secret_hex;
    const present = async () => {
      await rig.ports.pools.refresh();
      return rig.ports.registry.byId('far') !== undefined;
    };
    expect(await present()).toBe(false);
    await rig.announce(far.heartbeat());
    expect(await present()).toBe(true);
    rig.db.exec(`UPDATE pools SET heard_ms = heard_ms - ${OUT_AFTER_MS + 1}`);
    expect(await present()).toBe(false);
    expect(await rig.admin('GET', '/pools/far')).toMatchObject({ ready: false, state: 'warm' });
    await rig.announce(far.heartbeat({}, Date.now() + 1));
    expect(await present()).toBe(true);
  } finally {
    await far.kill();
  }
});
