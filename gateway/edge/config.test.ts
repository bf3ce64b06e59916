// The Worker's environment: what is wrong is named by variable and field, without its value; pools are reached as they say.
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../config.ts';
import type { EdgeEnv } from './cloudflare.ts';
import { parseEnv } from './config.ts';

const SECRET = '7e'.repeat(32);
const pool = { id: 'pool-a', url: 'https://pool-a.example.com/', keyId: 'key-1', secretHex: SECRET, models: ['tiny'] };

function envOf(changes: Record<string, unknown> = {}): EdgeEnv {
  const unused = (): never => {
    throw new Error('parsing reaches for nothing');
  };
  return {
    TENANTS: { idFromName: unused, get: unused },
    DB: { prepare: unused, batch: unused },
    HEARTH_ADMIN_KEY: `sk-admin-${SECRET}`,
    HEARTH_PEPPERS: JSON.stringify([{ version: 1, secretHex: SECRET }]),
    HEARTH_NAMESPACE_SECRET: SECRET,
    HEARTH_POOLS: JSON.stringify([pool]),
    ...changes,
  };
}

function refusalOf(env: EdgeEnv): string {
  try {
    parseEnv(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
  }
  throw new Error('the environment was taken');
}

describe('a complete environment', () => {
  test('has defaults for what it leaves out', () => {
    const { settings, pools } = parseEnv(envOf());
    expect(settings).toMatchObject({ limits: { requestTimeoutMs: 600_000 }, upkeep: { lookAfterMs: 30_000 } });
    expect(pools).toMatchObject([{ id: 'pool-a', url: 'https://pool-a.example.com', models: ['tiny'] }]);
  });

  test('sends a pool’s requests through the binding that it names', async () => {
    const asked: unknown[] = [];
    const POOL_A = {
      fetch: async (input: unknown) => {
        asked.push(input);
        return new Response('through the tunnel');
      },
    };
    const [bound] = parseEnv(
      envOf({ POOL_A, HEARTH_POOLS: JSON.stringify([{ ...pool, url: 'http://localhost:9000', binding: 'POOL_A' }]) }),
    ).pools;
    expect(await (await bound?.fetch('http://localhost:9000/x'))?.text()).toBe('through the tunnel');
    expect(asked).toEqual(['http://localhost:9000/x']);
  });
});

test.each<[string, Record<string, unknown>, RegExp]>([
  ['a secret that is not set', { HEARTH_PEPPERS: undefined }, /HEARTH_PEPPERS is not set.*deploy-cloudflare/],
  ['a list that is no JSON', { HEARTH_POOLS: SECRET }, /HEARTH_POOLS is not JSON/],
  ['an admin key that can be guessed', { HEARTH_ADMIN_KEY: 'sk-admin' }, /HEARTH_ADMIN_KEY/],
  ['a namespace secret that is too short', { HEARTH_NAMESPACE_SECRET: '7e7e' }, /HEARTH_NAMESPACE_SECRET.*32 to 64/],
  ['a setting that nobody knows', { HEARTH_SETTINGS: '{"limits":{"speed":1}}' }, /HEARTH_SETTINGS\.limits.*speed/],
  ['two pools of one name', { HEARTH_POOLS: JSON.stringify([pool, pool]) }, /same id/],
  [
    'a pool in the clear across the network',
    { HEARTH_POOLS: JSON.stringify([{ ...pool, url: 'http://pool.example.com' }]) },
    /pool-a has neither https nor a binding/,
  ],
  [
    'a binding that is not there',
    { HEARTH_POOLS: JSON.stringify([{ ...pool, binding: 'POOL_B' }]) },
    /POOL_B, which wrangler\.toml/,
  ],
])('%s is refused by name, without its value', (_what, changes, message) => {
  const told = refusalOf(envOf(changes));
  expect(told).toMatch(message);
  expect(told).not.toContain(SECRET);
});
