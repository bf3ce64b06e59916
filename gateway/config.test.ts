// The gateway's section: complete by its defaults, refused where parts of it are unsafe together, and silent about its secrets.
import { expect, test } from 'vitest';
import { ConfigError, type GatewaySectionInput, parseSection } from './config.ts';

const secretHex = 'ab'.repeat(32);
const pool = { id: 'a', url: 'http://127.0.0.1:1', keyId: 'k', secretHex };
const open = {
  ...{ host: '0.0.0.0', adminKey: 'sk-admin-0123456789abcdef', trustProxy: true },
  peppers: [{ version: 1, secretHex }],
};

test('a folder is enough: loopback, development, OpenAI-like defaults', () => {
  expect(parseSection({ dataDir: 'd' })).toMatchObject({
    ...{ mode: 'development', host: '127.0.0.1', port: 8787, synchronous: 'NORMAL' },
    ...{ defaults: { chatMaxTokens: 1024, completionMaxTokens: 16 }, pools: [] },
  });
});

test.each<[string, Partial<GatewaySectionInput>]>([
  ['an open address with key, pepper and proxy', open],
  ['or with certificate files', { ...open, trustProxy: false, tls: { certFile: 'c', keyFile: 'k' } }],
  ['loopback by its other names', { host: '::1', pools: [{ ...pool, url: 'http://[::1]:1' }] }],
  ['a distant pool over TLS', { pools: [{ ...pool, url: 'https://pool.example' }] }],
])('%s is accepted', (_, extra) => {
  expect(parseSection({ dataDir: 'd', ...extra }).dataDir).toBe('d');
});

test.each<[string, object, RegExp]>([
  ['an open address without an admin key', { ...open, adminKey: undefined }, /adminKey: listening on 0\.0\.0\.0/],
  ['an open address without a pepper', { ...open, peppers: undefined }, /peppers/],
  ['an open address without TLS', { ...open, trustProxy: false }, /tls: .*needs TLS/],
  ['a name that only begins like loopback', { host: '127.0.0.1.example' }, /adminKey/],
  ['production without an admin key', { mode: 'production' }, /adminKey.*HEARTH_ADMIN_KEY/],
  ['a short admin key', { adminKey: 'sk-admin-1' }, /adminKey/],
  ['a distant pool in the clear', { pools: [{ ...pool, url: 'http://10.0.0.1' }] }, /pools.*use https/],
  ['two pools of one id', { pools: [pool, pool] }, /two pools/],
  ['an unknown key', { colour: 1 }, /colour/],
])('%s is refused', (_, extra, message) => {
  expect(() => parseSection({ dataDir: 'd', ...extra })).toThrow(ConfigError);
  expect(() => parseSection({ dataDir: 'd', ...extra })).toThrow(message);
});
