// How an exchange that fails is told apart, on real sockets: whether the pool may have it, and whether the failure says anything of the pool.
import { spawn } from 'node:child_process';
import { createSecretKey, randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { freePort } from '../../test/support/freePort.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';
import { systemClock } from '../clock.ts';
import { PoolConnections } from '../poolConnections.ts';
import { PoolClient } from './poolClient.ts';
import { PoolRegistry } from './poolRegistry.ts';
import { failureOf, NotConnected, type PoolFailure, PoolRequestError, send } from './poolRequest.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const random = (count: number) => randomBytes(count);

function clientAt(url: string): PoolClient {
  const connections = new PoolConnections();
  ends.push(() => connections.close());
  const target = { id: 'pool-a', url, keyId: 'k', secret: createSecretKey(new Uint8Array(32)) };
  return new PoolClient(target, { fetch: connections.fetch, clock: systemClock, random });
}

async function failing(url: string): Promise<PoolFailure> {
  const error = await clientAt(url)
    .status()
    .catch((thrown: unknown) => thrown);
  if (!(error instanceof PoolRequestError)) throw error;
  return error.failure;
}

/** A server of bytes. */
async function raw(listener: (socket: Socket) => void): Promise<string> {
  const server: Server = createServer((socket) => listener(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => server.close());
  const address = server.address();
  return `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
}

describe('never sent, and the pool is not there', () => {
  test('nothing listens', async () => {
    expect(await failing(`http://127.0.0.1:${await freePort()}`)).toEqual({
      ...{ kind: 'never_sent', reason: expect.stringContaining('ECONNREFUSED') },
    });
  });
  test('its name leads nowhere', async () => {
    expect(await failing('http://pool.invalid:9')).toEqual({ kind: 'never_sent', reason: expect.any(String) });
  });
  test('no way leads to its address', async () => {
    expect(await failing('http://255.255.255.255:9')).toEqual({
      ...{ kind: 'never_sent', reason: expect.stringMatching(/E(NET|HOST)UNREACH|EACCES/) },
    });
  });
  test('it resets the connection before there is one to send over', async () => {
    const address = await raw((socket) => void socket.once('data', () => socket.resetAndDestroy()));
    expect(await failing(`https://${address}`)).toEqual({ kind: 'never_sent', reason: expect.any(String) });
  });
  test('it closes the connection before there is one to send over', async () => {
    const address = await raw((socket) => void socket.once('data', () => socket.end()));
    expect(await failing(`https://${address}`)).toEqual({ kind: 'never_sent', reason: expect.any(String) });
  });
});

test('aborted before there was a connection, it was not sent; on its way, it is broken', async () => {
  const outcome = async (url: string) => {
    const connections = new PoolConnections();
    ends.push(() => connections.close());
    const stop = new AbortController();
    const target = { id: 'pool-a', url, keyId: 'k', secret: createSecretKey(new Uint8Array(32)) };
    const ports = { fetch: connections.fetch, clock: systemClock, random };
    const sent = send(ports, target, { method: 'GET', path: '/', signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    return sent.catch((error: unknown) => (error instanceof PoolRequestError ? error.failure.kind : error));
  };
  const silent = await raw(() => {});
  expect(await outcome(`https://${silent}`)).toBe('never_sent');
  expect(await outcome(`http://${silent}`)).toBe('broken');
});

test('broken: the connection was reset when the request was on its way', async () => {
  const address = await raw((socket) => void socket.once('data', () => socket.resetAndDestroy()));
  expect(await failing(`http://${address}`)).toEqual({ kind: 'broken', reason: 'the connection failed' });
});

describe('a failure of this process', () => {
  test.each(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL'])('%s says nothing of the pool', (code) => {
    const cause = Object.assign(new Error(code), { code, syscall: 'connect' });
    const failure = { kind: 'never_sent', reason: expect.stringContaining(code), ours: true };
    for (const error of [new NotConnected(cause), new TypeError('fetch failed', { cause })])
      expect(failureOf(error)).toEqual(failure);
  });

  test('without a file descriptor left it calls no pool failed, and asks it again when it has one', async () => {
    const pool = new ScriptedPool();
    await pool.start();
    ends.push(() => pool.kill());
    const script = join(import.meta.dirname, '../../test/support/starvedGateway.ts');
    const command = `ulimit -n 64 && exec "${process.execPath}" "${script}" ${pool.url} ${pool.secretHex}`;
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    for await (const piece of child.stdout) said += piece;
    expect(JSON.parse(said)).toEqual({
      ready: { failures: 0, chosen: 'pool' },
      starved: {
        failures: 0,
        chosen: 'pool',
        failure: { kind: 'never_sent', reason: expect.stringMatching(/EMFILE/), ours: true },
      },
      fed: { failures: 0, chosen: 'pool' },
    });
  });

  test('a pool that is not there fails its question, as ever', async () => {
    const registry = new PoolRegistry(
      [{ client: clientAt(`http://127.0.0.1:${await freePort()}`), models: ['tiny'] }],
      systemClock,
    );
    await registry.refresh(registry.pools[0]!);
    expect(registry.pools[0]?.failures).toBe(1);
  });
});
