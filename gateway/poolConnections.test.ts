// The Node host's connections do for a pool what `fetch` does, and are used again.
import { createServer, type RequestListener, type Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { freePort } from '../test/support/freePort.ts';
import { invariant } from './invariant.ts';
import { PoolConnections } from './poolConnections.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function rig(listener: RequestListener): Promise<{ url: string; server: Server; connections: PoolConnections }> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  invariant(typeof address === 'object' && address !== null, 'it listens');
  const connections = new PoolConnections();
  ends.push(() => {
    connections.close();
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${address.port}`, server, connections };
}

const POST = { method: 'POST', headers: { 'x-told': 'yes' }, redirect: 'manual' } as const;

async function textOf(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body ?? []) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('method, path, headers and body arrive, status and headers come back, and one connection carries many', async () => {
  const { url, server, connections } = await rig(async (request, response) => {
    const body = await textOf(request);
    response.writeHead(418, { 'hearth-signature': 'sig', location: '/elsewhere' });
    response.end(JSON.stringify([request.method, request.url, request.headers['x-told'], body]));
  });
  let opened = 0;
  server.on('connection', () => opened++);
  for (const method of ['POST', 'DELETE'])
    for (let i = 0; i < 3; i++) {
      const body = new TextEncoder().encode('größer');
      const answer = await connections.fetch(`${url}/a/b?c=d`, { ...POST, method, body });
      expect([answer.ok, answer.status, answer.headers.get('hearth-signature'), answer.headers.get('x')]).toEqual([
        ...[false, 418, 'sig', null],
      ]);
      expect(JSON.parse(await textOf(answer.body))).toEqual([method, '/a/b?c=d', 'yes', 'größer']);
    }
  expect(opened).toBe(1);
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

test('where nothing listens, the error says so', async () => {
  const connections = new PoolConnections();
  await expect(connections.fetch(`http://127.0.0.1:${await freePort()}/`, POST)).rejects.toMatchObject({
    code: 'ECONNREFUSED',
  });
});
