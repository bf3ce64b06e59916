// The front on real sockets: TLS and its renewal, and senders that take their time.
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { selfSigned } from '../test/support/selfSigned.ts';
import type { Clock } from './clock.ts';
import { type GatewaySectionInput, parseSection } from './config.ts';
import { createListener, type Listener, listen, watchCertificate } from './listener.ts';
import { jsonLog } from './log.ts';

let folder: string;
let server: Listener | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-listener-'));
});
afterEach(async () => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

const echo = async (request: Request): Promise<Response> => new Response(await request.text());
const sectionOf = (extra: Partial<GatewaySectionInput> = {}) => parseSection({ dataDir: folder, ...extra });

function writeCertificate(): { tls: { certFile: string; keyFile: string }; cert: string } {
  const { cert, key } = selfSigned(Date.now());
  const tls = { certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem') };
  writeFileSync(tls.certFile, cert);
  writeFileSync(tls.keyFile, key);
  return { tls, cert };
}

/** The status, where the server proves itself by `ca`. */
function statusOver(port: number, ca: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', ca, agent: false }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    }).on('error', reject);
  });
}

test('TLS from files; renewed ones are taken without a restart, broken ones leave the old in use', async () => {
  const { tls, cert } = writeCertificate();
  const section = sectionOf({ tls });
  server = createListener(echo, section);
  const port = await listen(server, '127.0.0.1', 0);
  expect(await statusOver(port, cert)).toBe(200);

  const stopping = new AbortController();
  let wake = () => {};
  const clock: Clock = {
    now: Date.now,
    sleep: (_, signal) =>
      new Promise((resolve) => {
        wake = resolve;
        signal?.addEventListener('abort', () => resolve());
      }),
  };
  const logged: string[] = [];
  const log = jsonLog((line) => logged.push(line), Date.now);
  const watching = watchCertificate(server, section, { clock, log, signal: stopping.signal });
  const look = async () => {
    wake();
    await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const renewed = writeCertificate().cert;
  utimesSync(tls.certFile, 1, 1);
  await look();
  expect(await statusOver(port, renewed)).toBe(200);
  await expect(statusOver(port, cert)).rejects.toThrow();

  writeFileSync(tls.keyFile, 'no key');
  await look();
  expect(logged.map((line) => JSON.parse(line).event)).toEqual(['certificate_renewed', 'certificate_refused']);
  expect(await statusOver(port, renewed)).toBe(200);
  stopping.abort();
  await watching;
});

test('certificate files that are no certificate are refused with their names', () => {
  const { tls } = writeCertificate();
  writeFileSync(tls.certFile, 'nonsense');
  expect(() => createListener(echo, sectionOf({ tls }))).toThrow(/cert\.pem and .*key\.pem can't be used/);
  rmSync(tls.keyFile);
  expect(() => createListener(echo, sectionOf({ tls }))).toThrow(/ENOENT/);
});

test.each([
  ['headers', 'POST / HTTP/1.1\r\nhost: x\r\nx-slow: '],
  ['a body', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n'],
])('who sends %s byte by byte is cut off, and others are served meanwhile', async (_, begin) => {
  server = createListener(echo, sectionOf({ limits: { headersTimeoutMs: 300, bodyTimeoutMs: 600 } }));
  const port = await listen(server, '127.0.0.1', 0);
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  socket.write(begin);
  const drip = setInterval(() => socket.write('a'), 50);
  const began = performance.now();
  const closed = new Promise<number>((resolve) => socket.once('close', () => resolve(performance.now() - began)));
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'quick' });
  expect(await answer.text()).toBe('quick');
  expect(await closed).toBeLessThan(10_000);
  clearInterval(drip);
});
