// The way to a server: whom it trusts, what it never follows, and that connections are used again when an answer has ended, and closed when
// nobody wants it.
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { selfSigned } from '../../test/support/selfSigned.ts';
import { Connection, UpstreamFailed, UpstreamRefused } from './connection.ts';

let server: Server | null = null;
let connection: Connection | null = null;
let opened = 0;

afterEach(async () => {
  connection?.close();
  server?.closeAllConnections();
  await new Promise((resolve) => server?.close(resolve));
});

async function serve(listener: RequestListener, secure = false): Promise<Connection> {
  opened = 0;
  server = secure ? createSecureServer(selfSigned(Date.now()), listener) : createServer(listener);
  server.on('connection', () => {
    opened += 1;
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  connection = new Connection({ url: `http${secure ? 's' : ''}://127.0.0.1:${port}/base/`, apiKey: null });
  return connection;
}

const get = (path = '/x') => ({ method: 'GET' as const, path, signal: AbortSignal.timeout(5000) });

it('a certificate that nobody vouches for is refused', async () => {
  const to = await serve((_, response) => response.end('{}'), true);
  await expect(to.json(get())).rejects.toThrow(/SELF_SIGNED|UNABLE_TO_VERIFY/);
});

it('a redirection is an answer like any other that is not 200, and never followed', async () => {
  const to = await serve((request, response) => {
    response.writeHead(request.url === '/base/x' ? 307 : 200, { location: '/base/y' }).end('{}');
  });
  await expect(to.json(get())).rejects.toMatchObject({ status: 307 });
  expect(await to.json(get('/y'))).toEqual({});
});

it('a stream that has ended leaves its connection to the next request; one that is left is closed', async () => {
  const to = await serve((request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
    if (request.url === '/base/whole') response.end('data: 2\n\ndata: [DONE]\n\n');
  });
  for (let i = 0; i < 3; i++) {
    expect((await Array.fromAsync(await to.stream(get('/whole')))).flat()).toEqual(['1', '2']);
    await sleep(20);
  }
  expect(opened).toBe(1);
  const closed = new Promise((resolve) => server?.once('request', (request) => request.once('close', resolve)));
  for await (const batch of await to.stream(get('/left'))) {
    expect(batch).toEqual(['1']);
    break;
  }
  await closed;
});

it('aborting ends what waits for an answer, what reads one, and what nobody reads', async () => {
  const to = await serve((request, response) => {
    if (request.url === '/base/silent') return;
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
    if (request.url === '/base/ended') response.end();
  });
  const abortIn = (ms: number) => ({ signal: AbortSignal.timeout(ms), method: 'GET' as const });
  await expect(to.json({ ...abortIn(30), path: '/silent' })).rejects.toBeInstanceOf(UpstreamFailed);
  const read = Array.fromAsync(await to.stream({ ...abortIn(60), path: '/read' }));
  await expect(read).rejects.toBeInstanceOf(UpstreamFailed);
  await to.stream({ ...abortIn(60), path: '/unread' });
  await to.stream({ ...abortIn(60), path: '/ended' });
  await sleep(150); // an error that nobody hears would end the test's process
});

it.each([
  ['no stream', { 'content-type': 'application/json' }, '{}', UpstreamFailed],
  ['no JSON', {}, '<html>', UpstreamFailed],
])('%s is a failure', async (what, headers, body, failure) => {
  const to = await serve((_, response) => response.writeHead(200, headers).end(body));
  await expect(what === 'no stream' ? to.stream(get()) : to.json(get())).rejects.toBeInstanceOf(failure);
});

it('an answer without end is cut, a refusal keeps its time to come again', async () => {
  const to = await serve((request, response) => {
    if (request.url === '/base/full') return void response.writeHead(429, { 'retry-after': '3' }).end('{"a":1}');
    response.writeHead(200);
    const piece = Buffer.alloc(2 ** 20, 0x20);
    const pour = setInterval(() => response.write(piece), 1);
    response.once('close', () => clearInterval(pour));
  });
  await expect(to.json(get('/endless'))).rejects.toThrow(/more than \d+ bytes/);
  const refused = await to.json(get('/full')).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UpstreamRefused);
  expect(refused).toMatchObject({ status: 429, body: { a: 1 }, retryAfterMs: 3000 });
});
