// Requests find the pool that has their beginning: through the app, with two pools.
import { createSecretKey, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { PoolClient } from '../relay/poolClient.ts';

let rig: GatewayRig;
let second: ScriptedPool;
let tenant: Tenant;

beforeEach(async () => {
  rig = await GatewayRig.start();
  second = new ScriptedPool('pool-b');
  await second.start();
  const { registry, clock } = rig.ports;
  const known = [rig.pool, second].map(({ id, url, keyId, secretHex, model }) => {
    const secret = createSecretKey(Buffer.from(secretHex, 'hex'));
    const ports = { fetch, clock, random: (count: number) => randomBytes(count) };
    return { client: new PoolClient({ id, url, keyId, secret }, ports), models: [model] };
  });
  registry.replace(known);
  await rig.refresh();
  tenant = await rig.tenant([{ window: 'day', limit_tokens: 1_000_000 }]);
});
afterEach(async () => {
  await second.kill();
  await rig.stop();
});

/** The pool that a chat went to. */
async function askedPool(key: string, ...contents: string[]): Promise<string> {
  const before = rig.pool.requests.length;
  const messages = contents.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));
  const body = { model: 'tiny', messages, max_tokens: 1 };
  const response = await rig.request('POST', '/v1/chat/completions', { key, body });
  expect(response.status, await response.clone().text()).toBe(200);
  return rig.pool.requests.length > before ? rig.pool.id : second.id;
}

const text = (word: string): string => `${word} `.repeat(150);

test('a conversation stays at its pool, another one goes where less is kept', async () => {
  const first = await askedPool(tenant.key, text('alpha'));
  const other = await askedPool(tenant.key, text('beta'));
  expect(other).not.toBe(first);
  for (const turns of [['more'], ['more', 'and', 'more']]) {
    expect(await askedPool(tenant.key, text('alpha'), ...turns)).toBe(first);
    expect(await askedPool(tenant.key, text('beta'), ...turns)).toBe(other);
  }
});

test('what one tenant sent draws nobody else', async () => {
  const first = await askedPool(tenant.key, text('alpha'));
  const stranger = await rig.tenant([{ window: 'day', limit_tokens: 1_000_000 }]);
  expect(await askedPool(stranger.key, text('alpha'))).not.toBe(first);
});

test('a process that began anew has nothing of what the one before it had', async () => {
  const first = await askedPool(tenant.key, text('alpha'));
  const { registry } = rig.ports;
  const restartedMs = Date.now() + 1000;
  registry.heard(first, { ...registry.byId(first)!.status!, started_at_ms: restartedMs }, restartedMs);
  expect(await askedPool(tenant.key, text('beta')), 'both are empty').toBe(first);
  expect(await askedPool(tenant.key, text('alpha'))).not.toBe(first);
});
