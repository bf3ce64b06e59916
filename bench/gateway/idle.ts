// Streams that have begun and then say nothing for long: what holding them open takes of a gateway's memory, and whether their first
// event is passed on at once.
import { readFileSync } from 'node:fs';
import { Agent, type ClientRequest, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Row } from '../report.ts';
import { MODEL } from './contenders.ts';
import { chatBody, quantile, type Target } from './load.ts';

/** Opened at once: a listener's backlog has room for it. */
const OPENING = 50;
/** For collectors and allocators to come to rest. */
const SETTLE_MS = 2000;

/** Of a process. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

/** Resolves at the first event, with the time that it took; the stream stays open. */
function open(
  agent: Agent,
  { port, path, headers }: Target,
): Promise<{ request: ClientRequest; firstEventMs: number }> {
  const began = performance.now();
  const body = chatBody(MODEL, true, 'hold');
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        ...{ agent, port, path, host: '127.0.0.1', method: 'POST' },
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers },
      },
      (response) => {
        if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
        response.on('error', () => {});
        response.once('data', () => resolve({ request, firstEventMs: performance.now() - began }));
        response.resume();
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

export async function idleStreams(gateway: string, pid: number, target: Target, streams: number): Promise<Row[]> {
  const agent = new Agent({ keepAlive: false, maxSockets: streams });
  const before = residentBytes(pid);
  const held: ClientRequest[] = [];
  const firstEventMs: number[] = [];
  for (let opened = 0; opened < streams; opened += OPENING) {
    const count = Math.min(OPENING, streams - opened);
    for (const one of await Promise.all(Array.from({ length: count }, () => open(agent, target)))) {
      held.push(one.request);
      firstEventMs.push(one.firstEventMs);
    }
  }
  await sleep(SETTLE_MS);
  const after = residentBytes(pid);
  for (const request of held) {
    request.on('error', () => {});
    request.destroy();
  }
  agent.destroy();
  await sleep(SETTLE_MS);
  firstEventMs.sort((a, b) => a - b);
  return [
    { name: `memory of ${streams} idle streams`, value: (after - before) / 1e6, unit: 'MB', engine: gateway, streams },
    {
      name: `first event as ${streams} open`,
      value: quantile(firstEventMs, 0.5),
      unit: 'ms',
      engine: gateway,
      streams,
    },
  ];
}
