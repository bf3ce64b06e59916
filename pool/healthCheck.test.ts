import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { selfSigned } from '../test/support/selfSigned.ts';
import { healthStatus } from './healthCheck.ts';

it.each([
  ['http', createServer((_, answer) => answer.writeHead(503).end())],
  ['https', createTlsServer({ ...selfSigned(Date.now()) }, (_, answer) => answer.writeHead(503).end())],
])('any answer over %s tells its status; silence, and the other protocol, tell nothing', async (scheme, server) => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    expect(await healthStatus(`${scheme}://127.0.0.1:${port}/health`, 2000)).toBe(503);
    const other = scheme === 'http' ? 'https' : 'http';
    const answer = await healthStatus(`${other}://127.0.0.1:${port}/health`, 2000);
    expect(answer === null || answer === 400, String(answer)).toBe(true);
    server.removeAllListeners('request');
    expect(await healthStatus(`${scheme}://127.0.0.1:${port}/health`, 100)).toBeNull();
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
