// A closed loop of clients on kept-alive connections: each sends its next request when the last is answered. Latency is from sending to
// the last byte; of a stream also to its first event. What a request costs the server is the CPU time of its process, from /proc.
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';

/**
 * The first round, which is not measured, is so much longer: compilers take some twenty thousand requests until a gateway of JavaScript costs
 * what it costs for the rest of its life, whosever it is.
 */
export const WARMING = 4;

export interface Target {
  port: number;
  path: string;
  headers: Record<string, string>;
}

export interface LoadResult {
  /** Milliseconds, ascending. */
  latencyMs: number[];
  firstEventMs: number[];
  requestsPerSecond: number;
  /** Milliseconds of CPU per request of the process `pid`. */
  cpuMs: number;
}

export function chatBody(model: string, stream: boolean, content = 'hello, what is it about?'): string {
  return JSON.stringify({ model, max_tokens: 8, stream, messages: [{ role: 'user', content }] });
}

interface Answered {
  latencyMs: number;
  firstEventMs: number;
}

function send(agent: Agent, { port, path, headers }: Target, body: string): Promise<Answered> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        ...{ agent, port, path, host: '127.0.0.1', method: 'POST' },
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers },
      },
      (response) => {
        let firstEventMs = 0;
        let text = '';
        response.on('data', (piece: Buffer) => {
          firstEventMs ||= performance.now() - began;
          if (response.statusCode !== 200) text += piece.toString();
        });
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) resolve({ latencyMs: performance.now() - began, firstEventMs });
          else reject(new Error(`answered ${response.statusCode}: ${text.slice(0, 400)}`));
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** CPU seconds that a process has used. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const ticksPerSecond = 100;
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** `targets` are asked in turn: one per tenant. */
export async function load(
  targets: readonly Target[],
  pid: number,
  { body, requests, concurrency }: { body: string; requests: number; concurrency: number },
): Promise<LoadResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const answers: Answered[] = [];
  let sent = 0;
  const client = async (): Promise<void> => {
    while (sent < requests) {
      const target = targets[sent++ % targets.length];
      if (target) answers.push(await send(agent, target, body));
    }
  };
  const cpuBefore = cpuSeconds(pid);
  const began = performance.now();
  await Promise.all(Array.from({ length: concurrency }, client));
  const seconds = (performance.now() - began) / 1000;
  const cpuMs = ((cpuSeconds(pid) - cpuBefore) * 1000) / requests;
  agent.destroy();
  const ascending = (of: keyof Answered) => answers.map((one) => one[of]).sort((a, b) => a - b);
  return {
    ...{ latencyMs: ascending('latencyMs'), firstEventMs: ascending('firstEventMs') },
    ...{ requestsPerSecond: requests / seconds, cpuMs },
  };
}

export function quantile(ascending: readonly number[], part: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(part * ascending.length))] ?? Number.NaN;
}
