import { afterAll, beforeAll, expect, it } from 'vitest';
import { ScriptedUpstream } from '../test/support/scriptedUpstream.ts';
import { type ForeignPool, hearthConfig, isForeign } from './configSchema.ts';
import { checkUpstream } from './upstreamFindings.ts';

const upstream = new ScriptedUpstream('vllm');
beforeAll(() => upstream.start());
afterAll(() => upstream.kill());

function foreign(over: object = {}): ForeignPool {
  const pool = { id: 'a', kind: 'openai', make: 'vllm', url: upstream.url, models: [{ id: 'm' }], ...over };
  const [parsed] = hearthConfig.parse({ models: [], pools: [pool] }).pools.filter(isForeign);
  return parsed!;
}

const findings = async (over: object = {}, env: NodeJS.ProcessEnv = {}) =>
  (await checkUpstream(foreign(over), env)).map(({ name, state, text }) => `${state} ${name.trim()}: ${text}`);

it('a server that is there, serves the model, and shows its make', async () => {
  expect(await findings()).toEqual([
    `ok pool a: vLLM at ${upstream.url}`,
    'ok model m: m, 512 positions',
    'ok make: vLLM, by its figures at /metrics',
    'ok prefix cache: tenants are kept apart by salts',
  ]);
});

it.each([
  [
    { models: [{ id: 'served', name: 'absent' }] },
    {},
    /^problem model served: it does not serve absent; it serves: m$/,
  ],
  [{ models: [{ id: 'm', contextLength: 4096 }] }, {}, /^problem model m: contextLength is 4096, .*512/],
  [{ make: 'sglang' }, {}, /^note make: no figures of SGLang at \/metrics: is make right/],
  [{ make: 'tgi', sharedCache: true }, {}, /^problem model m: it tells no context length/],
  [{ make: 'lmdeploy', sharedCache: true }, {}, /^note prefix cache: tenants share it/],
  [{ make: 'llama.cpp' }, {}, /^ok prefix cache: off for every request/],
  [{ apiKeyEnv: 'ABSENT_KEY' }, {}, /^problem pool a: .*variable ABSENT_KEY.*not set/],
  [{ url: 'http://127.0.0.1:1' }, {}, /^problem pool a: .*ECONNREFUSED.*start it/],
])('%j', async (over, env, words) => {
  expect((await findings(over, env)).some((finding) => words.test(finding))).toBe(true);
});

it('a key that the server does not know', async () => {
  upstream.apiKey = 'sk-right';
  expect(await findings({ apiKeyEnv: 'KEY' }, { KEY: 'sk-wrong' })).toEqual([
    expect.stringMatching(/^problem pool a: .*answered 401/),
  ]);
  expect((await findings({ apiKeyEnv: 'KEY' }, { KEY: 'sk-right' }))[0]).toMatch(/^ok/);
  upstream.apiKey = null;
});
