// A gateway without pools of its own and a pool by itself, as two pods would be: both by their launchers, both with TLS, neither told of the other
// but by an enrolment.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { POOL_HEALTH } from '../pool/supervisor.ts';
import { eventually } from '../test/support/eventually.ts';
import { freePort } from '../test/support/freePort.ts';
import { selfSigned } from '../test/support/selfSigned.ts';
import { testModelPath } from '../test/support/testModel.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const ADMIN_KEY = `sk-admin-${'k'.repeat(40)}`;
const { cert, key } = selfSigned(Date.now());

let folder = '';
const children: { child: ChildProcess; ended: Promise<number | string> }[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-pool-'));
  writeFileSync(join(folder, 'tls.crt'), cert);
  writeFileSync(join(folder, 'tls.key'), key);
});
afterAll(async () => {
  for (const { child } of children) child.kill('SIGTERM');
  await Promise.all(children.map(({ ended }) => ended));
  rmSync(folder, { recursive: true, force: true });
});

function launch(command: string, config: object, env: NodeJS.ProcessEnv = {}) {
  const file = join(folder, `${command}.json`);
  writeFileSync(file, JSON.stringify(config));
  const child = spawn(process.execPath, ['bin/hearth.mjs', command], {
    cwd: root,
    env: { ...process.env, HEARTH_CONFIG: file, NODE_EXTRA_CA_CERTS: join(folder, 'tls.crt'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const ended = new Promise<number | string>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal ?? '')),
  );
  const launched = { child, ended, output: () => text };
  children.push(launched);
  return launched;
}

interface Answer {
  status: number;
  body: string;
}

/** With the certificate as the only authority. */
function ask(port: number, path: string, { key, body }: { key?: string; body?: object } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      ...(key !== undefined && { authorization: `Bearer ${key}` }),
    };
    const options = { host: '127.0.0.1', port, path, ca: cert, agent: false, headers };
    const sent = body ? request({ ...options, method: 'POST' }) : get(options);
    sent.on('error', reject).on('response', (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    sent.end(body && JSON.stringify(body));
  });
}

it('an enrolled pool is served by a gateway that has none of its own, over TLS, and drains when it is told to go', async () => {
  const [gatewayPort, poolPort, metricsPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const tls = { certFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key') };
  const gateway = launch(
    'start',
    { pools: [], server: { mode: 'production', port: gatewayPort, tls, dataDir: join(folder, 'gateway') } },
    { HEARTH_ADMIN_KEY: ADMIN_KEY },
  );
  await eventually('the gateway serves', async () => gateway.output().includes('Stop: Ctrl-C'));
  const watchedFromMs = performance.now();
  expect((await ask(gatewayPort, '/healthz')).status).toBe(200);
  expect((await ask(gatewayPort, '/readyz')).status).toBe(503);

  const enrol = (count: number) =>
    spawnSync(
      'deploy/kubernetes/enrol.sh',
      [`https://127.0.0.1:${gatewayPort}`, 'hearth', String(count), join(folder, 'pods')],
      {
        ...{ cwd: root, encoding: 'utf8' },
        env: { ...process.env, HEARTH_ADMIN_KEY: ADMIN_KEY, CURL_CA_BUNDLE: join(folder, 'tls.crt') },
      },
    );
  expect(enrol(2)).toMatchObject({ status: 0, stdout: 'hearth-pool-0\nhearth-pool-1\n', stderr: '' });
  expect(enrol(3), 'those before are left as they are').toMatchObject({ status: 0, stdout: 'hearth-pool-2\n' });
  const pod: unknown = JSON.parse(readFileSync(join(folder, 'pods/hearth-pool-1'), 'utf8'));
  expect(pod).toEqual({ id: expect.stringMatching(/^pool_key_/), secret_hex: expect.stringMatching(/^[0-9a-f]{64}$/) });
  rmSync(join(folder, 'pods/hearth-pool-1'));
  expect(enrol(3)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/hearth-pool-1 is not enrolled: .*Remove one/),
  });

  const admin = async (path: string, body?: object) =>
    JSON.parse((await ask(gatewayPort, `/v1/organization${path}`, { key: ADMIN_KEY, ...(body && { body }) })).body);
  expect((await admin('/pools/hearth-pool-2')).allowed_origins).toEqual([
    'https://hearth-pool-2.hearth-pool.hearth.svc:9000',
  ]);
  const url = `https://127.0.0.1:${poolPort}`;
  const { key } = await admin('/pools', { id: 'pool-0', allowed_origins: [url] });
  mkdirSync(join(folder, 'keys'));
  writeFileSync(join(folder, 'keys/pool-0'), JSON.stringify(key));
  const pool = launch(
    'pool',
    {
      models: [{ id: 'real', source: `file:${await testModelPath()}`, kvBlocks: 64 }],
      server: { dataDir: join(folder, 'pool') },
      pools: [{ id: 'pod', pricePerHour: '3.60' }],
      enrolled: {
        keyFile: join(folder, 'keys/pool-0'),
        gateway: `https://127.0.0.1:${gatewayPort}`,
        ...{ host: '0.0.0.0', port: poolPort, tls, metrics: { host: '127.0.0.1', port: metricsPort } },
      },
    },
    { HEARTH_POOL_ID: 'pool-0', HEARTH_POOL_URL: url },
  );
  const ready = async () => (await ask(gatewayPort, '/readyz')).status === 200;
  await Promise.race([
    eventually('the gateway has heard of it', ready, 120_000),
    pool.ended.then((code) => Promise.reject(new Error(`it ended (${code}): ${pool.output()}`))),
  ]);
  expect((await ask(poolPort, '/health/ready')).status).toBe(200);
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  expect(metrics).toContain('hearth_pool_waiting_tokens{model="real"} 0');
  expect((await fetch(`http://127.0.0.1:${metricsPort}/pool/status`)).status).toBe(404);

  const { id: project } = await admin('/projects', { name: 'research' });
  const { api_key } = await admin(`/projects/${project}/service_accounts`, { name: 'test' });
  const chat = { model: 'real', max_tokens: 2, messages: [{ role: 'user', content: 'Hello' }] };
  const answer = await ask(gatewayPort, '/v1/chat/completions', { key: api_key.value, body: chat });
  expect(answer.status, answer.body).toBe(200);

  const costOf = async () => (await admin('/pools/pool-0')).cost;
  await eventually('the pool tells what it served', async () => (await costOf())?.models[0]?.sequences === 1);
  const cost = await costOf();
  expect(cost).toMatchObject({
    currency: 'USD',
    per_hour: '3.6',
    models: [{ model: 'real', output_tokens: 2, charged: null }],
  });
  const [served] = cost.models;
  expect(Number(cost.idle) + Number(served.spent)).toBeGreaterThan(0);
  expect(Number(served.cost.output)).toBeGreaterThan(Number(served.at_work.output));
  const series = (await ask(gatewayPort, '/metrics', { key: ADMIN_KEY })).body;
  expect(series).toMatch(/cost_per_million_tokens\{pool="pool-0",currency="USD",model="real",kind="output"\} [\d.]+/);

  // Its supervisor asks over TLS, too: one that gets no answer is killed by now.
  const { intervalMs, failures } = POOL_HEALTH;
  await sleep(Math.max(0, watchedFromMs + intervalMs * (failures + 1) - performance.now()));
  expect(readFileSync(join(folder, 'gateway/hearth.log'), 'utf8')).not.toContain('"restarting"');

  pool.child.kill('SIGTERM');
  expect(await pool.ended).toBe(0);
  await eventually('the gateway knows', async () => !(await ready()));
  gateway.child.kill('SIGTERM');
  expect(await gateway.ended).toBe(0);
});

it('what a pool by itself lacks is said with the remedy, and no key is shown', async () => {
  const enrolled = {
    id: 'pool-0',
    keyFile: join(folder, 'nothing'),
    gateway: 'https://g.example.com',
    url: 'https://p.example.com',
  };
  const refusal = async (config: object) => {
    const { ended, output } = launch('pool', config);
    expect(await ended).toBe(1);
    return output();
  };
  expect(await refusal({})).toContain('needs the section "enrolled"');
  expect(await refusal({ enrolled })).toMatch(/enrolled\.keyFile: .*nothing can't be used \(ENOENT\)/);
  expect(await refusal({ enrolled, pools: [{ id: 'a' }, { id: 'b' }] })).toContain('"pools" names 2');
  expect(await refusal({ enrolled: { ...enrolled, gateway: 'http://g.example.com' } })).toContain('reached by https');
  writeFileSync(join(folder, 'bad'), JSON.stringify({ id: 'k', secret_hex: 'abcdef' }));
  const bad = await refusal({ enrolled: { ...enrolled, keyFile: join(folder, 'bad') } });
  expect(bad).toContain('JSON with id and secret_hex');
  expect(bad).not.toContain('abcdef');
});
