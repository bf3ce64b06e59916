// The Node host's connections do for a pool what `fetch` does, and are used again.
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createServer as createRawServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterEach, expect, test, vi } from 'vitest';
import { freePort } from '../test/support/freePort.ts';
import { selfSigned } from '../test/support/selfSigned.ts';
import { BadAnswer } from './httpAnswer.ts';
import { invariant } from './invariant.ts';
import { PoolConnections } from './poolConnections.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

interface Rig {
  url: string;
  server: Server;
  connections: PoolConnections;
  /** Connections that the server has seen. */
  opened(): number;
}

async function rig(listener: RequestListener, server = createServer(), scheme = 'http'): Promise<Rig> {
  server.on('request', listener);
  let opened = 0;
  server.on(scheme === 'https' ? 'secureConnection' : 'connection', () => opened++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  invariant(typeof address === 'object' && address !== null, 'it listens');
  const connections = new PoolConnections();
  ends.push(() => {
    connections.close();
    server.closeAllConnections();
    server.close();
  });
  return { url: `${scheme}://127.0.0.1:${address.port}`, server, connections, opened: () => opened };
}

const POST = { method: 'POST', headers: { 'x-told': 'yes' }, redirect: 'manual' } as const;

async function textOf(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body ?? []) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('method, path, headers and body arrive, status and headers come back, and one connection carries many', async () => {
  const { url, connections, opened } = await rig(async (request, response) => {
    const body = await textOf(request);
    response.writeHead(418, { 'hearth-signature': 'sig', location: '/elsewhere' });
    response.end(JSON.stringify([request.method, request.url, request.headers['x-told'], body]));
  });
  for (const method of ['POST', 'DELETE'])
    for (let i = 0; i < 3; i++) {
      const body = new TextEncoder().encode('größer');
      const answer = await connections.fetch(`${url}/a/b?c=d`, { ...POST, method, body });
      expect([answer.ok, answer.status, answer.headers.get('hearth-signature'), answer.headers.get('x')]).toEqual([
        ...[false, 418, 'sig', null],
      ]);
      expect(JSON.parse(await textOf(answer.body))).toEqual([method, '/a/b?c=d', 'yes', 'größer']);
    }
  expect(opened()).toBe(1);
});

test('requests at once have connections of their own, which serve the next ones', async () => {
  const { url, connections, opened } = await rig(
    (request, response) => void sleep(5).then(() => response.end(request.url)),
  );
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => connections.fetch(`${url}/${i}`, POST)));
    expect(await Promise.all(answers.map(({ body }) => textOf(body)))).toEqual(answers.map((_, i) => `/${i}`));
  }
  expect(opened()).toBe(8);
});

test('a connection is not used when the pool may be about to close it, nor after it has', async () => {
  const soon = await rig((_, response) => void response.end('x'));
  soon.server.keepAliveTimeout = 1000;
  for (let i = 1; i <= 2; i++) {
    await textOf((await soon.connections.fetch(`${soon.url}/`, POST)).body);
    expect(soon.opened()).toBe(i);
  }
  const closed = await rig((_, response) => void response.end('x'));
  for (let i = 1; i <= 2; i++) {
    await textOf((await closed.connections.fetch(`${closed.url}/`, POST)).body);
    expect(closed.opened()).toBe(i);
    closed.server.closeAllConnections();
    await sleep(20);
  }
});

test('a connection on which something comes that nobody asked for is not used again', async () => {
  const { url, connections, opened } = await rig((_, response) => {
    const { socket } = response;
    response.end('x');
    void sleep(10).then(() => socket?.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged'));
  });
  for (let i = 1; i <= 2; i++) {
    const answer = await connections.fetch(`${url}/`, POST);
    expect(await textOf(answer.body)).toBe('x');
    await sleep(40);
    expect(opened()).toBe(i);
  }
});

test('what is no HTTP is an error', async () => {
  const server = createRawServer((socket) => void socket.end('hello\r\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => void server.close());
  const address = server.address();
  invariant(typeof address === 'object' && address !== null, 'it listens');
  const connections = new PoolConnections();
  await expect(connections.fetch(`http://127.0.0.1:${address.port}/`, POST)).rejects.toThrow(BadAnswer);
});

test('a header of two lines never leaves', async () => {
  const { url, connections, opened } = await rig((_, response) => void response.end('x'));
  const headers = { 'x-told': 'a\r\nhearth-tenant: other' };
  await expect(connections.fetch(`${url}/`, { ...POST, headers })).rejects.toThrow('one line');
  expect(opened()).toBe(0);
});

test('a reader that is slower than the pool holds it back, and gets everything', async () => {
  const [piece, pieces] = [Buffer.alloc(64 * 1024, 'a'), 1024];
  let sent = 0;
  const { url, connections } = await rig(async (_, response) => {
    while (sent < pieces) {
      sent += 1;
      if (!response.write(piece)) await new Promise((resolve) => response.once('drain', resolve));
    }
    response.end();
  });
  const { body } = await connections.fetch(`${url}/`, POST);
  await sleep(200);
  expect(sent).toBeLessThan(pieces / 2);
  let got = 0;
  for await (const bytes of body ?? []) got += bytes.length;
  expect(got).toBe(piece.length * pieces);
});

test('over TLS a pool must prove who it is; then its connection is used again', async () => {
  const { cert, key } = selfSigned(Date.now());
  const { url, connections, opened } = await rig(
    (_, response) => void response.end('x'),
    createTlsServer({ cert, key }),
    'https',
  );
  await expect(connections.fetch(`${url}/`, POST)).rejects.toMatchObject({
    ...{ name: 'NotConnected', cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' } },
  });
  expect(opened()).toBe(0);
  const trusted = getCACertificates();
  setDefaultCACertificates([cert]);
  ends.push(() => setDefaultCACertificates(trusted));
  for (let i = 0; i < 2; i++) expect(await textOf((await connections.fetch(`${url}/`, POST)).body)).toBe('x');
  expect(opened()).toBe(1);
});

test('a reader that leaves early, or aborts, ends the request at the pool', async () => {
  let left = 0;
  const { url, connections } = await rig((_, response) => {
    response.on('close', () => left++);
    response.write('first');
  });
  const answer = await connections.fetch(`${url}/`, POST);
  for await (const _ of answer.body ?? []) break;
  await expect.poll(() => left).toBe(1);

  const stop = new AbortController();
  const other = await connections.fetch(`${url}/`, { ...POST, signal: stop.signal });
  const read = textOf(other.body);
  stop.abort();
  await expect(read).rejects.toThrow();
  await expect.poll(() => left).toBe(2);
  await expect(connections.fetch(`${url}/`, { ...POST, signal: stop.signal })).rejects.toThrow('aborted');
});

test('an answer that breaks off is an error, never a short answer', async () => {
  const { url, connections } = await rig((_, response) => {
    response.write('first');
    void sleep(10).then(() => response.destroy());
  });
  const answer = await connections.fetch(`${url}/`, POST);
  await expect(textOf(answer.body)).rejects.toThrow();
});

/** A server of bytes; `opened`: its connections so far. */
async function raw(listener: (socket: Socket) => void): Promise<{ port: number; opened(): number }> {
  let opened = 0;
  const sockets = new Set<Socket>();
  const server = createRawServer((socket) => {
    opened += 1;
    sockets.add(socket.on('error', () => {}));
    listener(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  invariant(typeof address === 'object' && address !== null, 'it listens');
  return { port: address.port, opened: () => opened };
}

test('a connection whose request was answered before it was sent whole is not used again', async () => {
  const answer = 'HTTP/1.1 413 Large\r\ncontent-length: 1\r\n\r\nx';
  const { port, opened } = await raw((socket) => {
    socket.once('data', () => {
      socket.pause(); // it reads no further
      socket.write(answer);
    });
  });
  const connections = new PoolConnections();
  ends.push(() => connections.close());
  const signal = AbortSignal.timeout(2000);
  for (let i = 1; i <= 2; i++) {
    const body = new Uint8Array(32 * 1024 * 1024);
    expect(await textOf((await connections.fetch(`http://127.0.0.1:${port}/`, { ...POST, body, signal })).body)).toBe(
      'x',
    );
    expect(opened()).toBe(i);
  }
});

test('a pool that takes no connection is not waited for as long as a request may take', async () => {
  const { port, opened } = await raw(() => {}); // and no handshake
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  ends.push(() => vi.useRealTimers());
  const asked = new PoolConnections().fetch(`https://127.0.0.1:${port}/`, POST);
  asked.catch(() => {});
  while (opened() === 0) await new Promise((resolve) => setImmediate(resolve));
  vi.advanceTimersByTime(5000);
  await expect(asked).rejects.toMatchObject({
    name: 'NotConnected',
    cause: { message: 'the pool takes no connection' },
  });
}, 2000);

test('where nothing listens, the error says so', async () => {
  const connections = new PoolConnections();
  await expect(connections.fetch(`http://127.0.0.1:${await freePort()}/`, POST)).rejects.toMatchObject({
    ...{ name: 'NotConnected', cause: { code: 'ECONNREFUSED' } },
  });
});
