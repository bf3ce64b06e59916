import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parseSection } from '../gateway/config.ts';
import { poolSection } from '../pool/config.ts';
import { upstreamSection } from '../pool/upstream/config.ts';
import { ConfigError, loadConfig, parseConfig } from './config.ts';
import { schemaText, withTables } from './configDocs.ts';
import { isForeign } from './configSchema.ts';
import { DEFAULT_MODEL } from './defaultModel.ts';
import { gatewaySectionOf, poolSectionOf, upstreamSectionOf } from './sections.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'hearth-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const VLLM = { id: 'a100', kind: 'openai', make: 'vllm', url: 'http://127.0.0.1:8000', models: [{ id: 'm' }] };

const refusal = (written: unknown, env: NodeJS.ProcessEnv = {}): string => {
  try {
    parseConfig(written, env);
    return 'accepted';
  } catch (error) {
    return error instanceof ConfigError ? error.message : `not ours: ${error}`;
  }
};

describe('the configuration', () => {
  it('has a default for everything, and the committed file says the same', () => {
    const empty = parseConfig({}, {});
    expect(empty.models).toEqual([expect.objectContaining(DEFAULT_MODEL)]);
    expect(empty.server).toMatchObject({ host: '127.0.0.1', port: 8787, dataDir: '.hearth', mode: 'development' });
    const { $schema, ...committed } = parseConfig(
      JSON.parse(readFileSync(join(root, 'hearth.config.json'), 'utf8')),
      {},
    );
    expect($schema).toBe('./hearth.schema.json');
    expect(committed).toEqual(empty);
  });

  it('the environment wins over the file, an empty variable does not', () => {
    const written = { server: { port: 1000, dataDir: 'a' }, adapter: 'hardware' };
    const env = { PORT: '2000', HEARTH_DATA_DIR: 'b', HEARTH_ADAPTER: 'swiftshader', HEARTH_MODEL_CACHE: '/m' };
    expect(parseConfig(written, env)).toMatchObject({
      server: { port: 2000, dataDir: 'b' },
      adapter: 'swiftshader',
      modelCache: '/m',
    });
    expect(parseConfig(written, { PORT: '', HEARTH_ADAPTER: '' })).toMatchObject({
      server: { port: 1000 },
      adapter: 'hardware',
    });
    expect(written).toEqual({ server: { port: 1000, dataDir: 'a' }, adapter: 'hardware' });
  });

  it.each([
    [{ sever: {} }, {}, /there is no key "sever"; did you mean "server"\?/],
    [{ server: { prot: 1 } }, {}, /server: there is no key "prot"; did you mean "port"\?/],
    [{ pool: { colour: 1 } }, {}, /pool: there is no key "colour"; there are: maxRunning/],
    [{ models: [{ ...DEFAULT_MODEL, digest: '' }] }, {}, /models\.0: there is no key "digest"; there are: id, source/],
    [{ models: [] }, {}, /models: /],
    [{ models: [{ id: 'a' }] }, {}, /models\.0\.source: /],
    [{ models: [{ ...DEFAULT_MODEL, sha256: 'ABC' }] }, {}, /models\.0\.sha256: 64 hexadecimal digits/],
    [{ server: { port: 70_000 } }, {}, /server\.port: .*65535/],
    [{ server: 1 }, { PORT: '3000' }, /server: /],
    [{}, { PORT: 'http' }, /^ {2}PORT: .*number/m],
    [{}, { PORT: '99999' }, /^ {2}PORT: .*65535/m],
    [{ pools: [{ id: 'A b' }] }, {}, /pools\.0\.id: lower-case letters/],
    [{ pools: [{ id: 'a' }, { id: 'a' }] }, {}, /pools: two pools have the same id/],
    [{ pools: [{ id: 'a', models: ['absent'] }] }, {}, /pools\.0\.models\.0: there is no model "absent"/],
    [{ pools: [{ id: 'a', modles: [] }] }, {}, /pools\.0: there is no key "modles"; did you mean "models"/],
    [
      { models: [DEFAULT_MODEL, { ...DEFAULT_MODEL, id: 'b' }], pools: [{ id: 'a', models: ['b'] }] },
      {},
      /models\.0: no pool serves/,
    ],
    [{ models: [], pools: [VLLM, { id: 'own' }] }, {}, /models: a pool of our own serves at least one/],
    [{ pools: [VLLM] }, {}, /models\.0: no pool serves .* models is \[\]/],
    [{ models: [], pools: [{ ...VLLM, kind: 'foreign' }] }, {}, /pools\.0\.kind: /],
    [{ models: [], pools: [{ ...VLLM, make: 'ollama' }] }, {}, /pools\.0\.make: /],
    [{ models: [], pools: [{ ...VLLM, url: 'ftp://a' }] }, {}, /pools\.0\.url: /],
    [{ models: [], pools: [{ ...VLLM, url: 'http://gpu-1:8000' }] }, {}, /pools\.0\.url: .* https; plainHttp/],
    [
      { models: [], pools: [{ ...VLLM, apiKey: 'sk' }] },
      {},
      /pools\.0: there is no key "apiKey"; there are: .*apiKeyEnv/,
    ],
    [{ models: [], pools: [{ ...VLLM, make: 'tgi' }] }, {}, /pools\.0\.sharedCache: TGI can't keep tenants/],
    [{ models: [], pools: [{ ...VLLM, models: [{ id: 'm' }, { id: 'm' }] }] }, {}, /pools\.0\.models: two models/],
    [[], {}, /the file: /],
    ['text', {}, /the file: /],
  ])('refuses %j with %j', (written, env, words) => {
    expect(refusal(written, env)).toMatch(words);
  });

  it('names every problem at once, and where all keys are', () => {
    const message = refusal({ server: { port: -1 }, pool: { maxRunning: 0 } });
    expect(message).toMatch(/server\.port: [\s\S]*pool\.maxRunning: [\s\S]*docs\/configuration\.md/);
  });

  it('comes from a file that can be another one, and must then be there and be JSON', () => {
    expect(loadConfig(folder, {})).toMatchObject({
      file: null,
      config: { server: { dataDir: join(folder, '.hearth') } },
    });
    writeFileSync(join(folder, 'other.json'), '{"server":{"port":1}}');
    expect(loadConfig(folder, { HEARTH_CONFIG: 'other.json' }).config.server.port).toBe(1);
    expect(() => loadConfig(folder, { HEARTH_CONFIG: 'absent.json' })).toThrow(/absent\.json can't be read/);
    writeFileSync(join(folder, 'broken.json'), '{"server":');
    expect(() => loadConfig(folder, { HEARTH_CONFIG: 'broken.json' })).toThrow(/broken\.json is not JSON/);
  });
});

describe('what is made from the schema', () => {
  it('hearth.schema.json is current (npm run config:schema)', () => {
    expect(readFileSync(join(root, 'hearth.schema.json'), 'utf8')).toBe(schemaText());
  });

  it('the tables of docs/configuration.md are current (npm run config:schema)', () => {
    const document = readFileSync(join(root, 'docs/configuration.md'), 'utf8');
    expect(document).toBe(withTables(document));
  });

  it('every key says what it means', () => {
    const undescribed: string[] = [];
    const walk = (
      node: { properties?: Record<string, object>; items?: object; oneOf?: object[]; description?: string },
      path: string,
    ) => {
      for (const kind of node.oneOf ?? []) walk(kind, path);
      if (!node.properties && !node.oneOf && !node.description && path) undescribed.push(path);
      for (const [key, child] of Object.entries(node.properties ?? {})) walk(child, `${path}.${key}`);
      if (node.items) walk(node.items, `${path}[]`);
    };
    walk(JSON.parse(schemaText()), '');
    expect(undescribed).toEqual([]);
  });
});

describe('the sections of the processes', () => {
  const identity = { poolId: 'local', keyId: 'start', secretHex: 'ab'.repeat(32) };
  const entry = { id: 'local', url: 'http://127.0.0.1:4711', keyId: 'start', secretHex: identity.secretHex };
  const own = { id: 'local' };
  const modelPaths = new Map([[DEFAULT_MODEL.id, '/m.gguf']]);
  const options = { modelPaths, dawnFlags: ['adapter=x'], tuningFile: '/t.json', port: null };
  const loaded = (env: NodeJS.ProcessEnv = {}) => loadConfig(folder, env);

  it('are what each process accepts, and agree with each other', () => {
    const pool = poolSection.parse(poolSectionOf(loaded(), own, identity, options));
    const models = [DEFAULT_MODEL.id];
    const going = { ...entry, id: 'local~', models, retired: true };
    const gateway = parseSection(gatewaySectionOf(loaded(), [{ ...entry, models }, going], null));
    expect(pool).toMatchObject({ host: '127.0.0.1', port: 0, dawnFlags: ['adapter=x'], models: [{ path: '/m.gguf' }] });
    expect(gateway.pools).toEqual([{ ...entry, models }]);
    expect(pool.maxBodyBytes).toBeGreaterThan(gateway.limits.maxBodyBytes);
  });

  it('of a pool are what all have in common, but for what it says itself, with a journal of its own', () => {
    writeFileSync(
      join(folder, 'pools.json'),
      JSON.stringify({
        models: ['a', 'b'].map((id) => ({ id, source: `file:/${id}.gguf` })),
        pool: { sleepAfterMs: 1000, maxRunning: 3 },
        pools: [{ id: 'one' }, { id: 'two', models: ['b'], sleepAfterMs: 5, deviceBytes: 77 }],
      }),
    );
    const all = loaded({ HEARTH_CONFIG: 'pools.json' });
    const [one, two] = all.config.pools
      .filter((each) => !isForeign(each))
      .map((each) =>
        poolSection.parse(
          poolSectionOf(
            all,
            each,
            { ...identity, poolId: each.id },
            {
              ...options,
              modelPaths: new Map([
                ['a', '/a'],
                ['b', '/b'],
              ]),
            },
          ),
        ),
      );
    expect(one?.models.map(({ id, path }) => [id, path])).toEqual([
      ['a', '/a'],
      ['b', '/b'],
    ]);
    expect(two?.models.map(({ id, path }) => [id, path])).toEqual([['b', '/b']]);
    expect([one?.lifecycle, two?.lifecycle]).toMatchObject([
      { sleepAfterMs: 1000 },
      { sleepAfterMs: 5, deviceBytes: 77 },
    ]);
    expect([one?.bounds.maxRunning, two?.bounds.maxRunning]).toEqual([3, 3]);
    expect(one?.journal.folder).not.toBe(two?.journal.folder);
    expect(one?.tiers.diskFolder).toBe(two?.tiers.diskFolder);
  });

  it('of a foreign server say where it is and which variable has its key, never the key', () => {
    const foreign = { ...VLLM, url: 'https://gpu-1', apiKeyEnv: 'GPU_1_KEY', priority: true };
    writeFileSync(join(folder, 'foreign.json'), JSON.stringify({ models: [], pools: [foreign] }));
    const all = loaded({ HEARTH_CONFIG: 'foreign.json', GPU_1_KEY: 'sk-secret' });
    const [pool] = all.config.pools.filter(isForeign);
    const section = upstreamSectionOf(all, pool!, { ...identity, poolId: 'a100' }, 4711);
    expect(upstreamSection.parse(section)).toMatchObject({
      ...{ poolId: 'a100', port: 4711, make: 'vllm', url: 'https://gpu-1', apiKeyEnv: 'GPU_1_KEY', priority: true },
      ...{ sharedCache: false, journal: { folder: expect.stringContaining('a100') } },
    });
    expect(JSON.stringify(section)).not.toContain('sk-secret');
  });

  it('come back on the port they had', () => {
    expect(poolSectionOf(loaded(), own, identity, { ...options, port: 4711 }).port).toBe(4711);
    const env = { PORT: '0' };
    expect(gatewaySectionOf(loaded(env), [], 5000).port).toBe(5000);
    expect(gatewaySectionOf(loaded(env), [], null).port).toBe(0);
  });

  it('beyond loopback the gateway refuses to start without admin key, pepper and TLS', () => {
    const open = (env: NodeJS.ProcessEnv) => () =>
      parseSection(gatewaySectionOf(loaded({ HEARTH_HOST: '0.0.0.0', ...env }), [], null));
    expect(open({})).toThrow(/adminKey.*peppers.*tls/);
    writeFileSync(join(folder, 'tls.json'), '{"server":{"behindTls":true}}');
    const explicit = {
      HEARTH_CONFIG: 'tls.json',
      HEARTH_ADMIN_KEY: `sk-admin-${'k'.repeat(40)}`,
      HEARTH_PEPPER: 'cd'.repeat(32),
    };
    expect(open(explicit)().host).toBe('0.0.0.0');
  });
});
