// How a gateway's process talks to what started it: its section comes as one JSON line on stdin (no secret in argv or environment), JSON
// lines {"type":"ready"} or {"type":"fatal"} go to stdout, logs to stderr. A later line {"type":"pools"} puts other pools in the place of those it
// had, and is answered in kind. SIGTERM, SIGINT or the end of stdin (the supervisor died) drain and exit.
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { systemClock } from './clock.ts';
import { ConfigError, type GatewaySection, parseSection, poolSchema } from './config.ts';
import type { DevCredentials } from './devCredentials.ts';
import { errorFields, jsonLog, type Log } from './log.ts';

/**
 * Node's own program on large pages where the system has them, and a larger young generation. Together 0.94 to 0.98 of the CPU time of a plain request
 * at concurrency 32 in four paired runs, whose quartiles reach from 0.8 to 1.2, for 16 MB of memory; neither was seen to bring it alone.
 */
export const GATEWAY_NODE_FLAGS: readonly string[] = ['--use-largepages=silent', '--max-semi-space-size=64'];

export interface GatewayHost {
  port: number;
  baseURL: string;
  /** In development mode on loopback. */
  credentials: DevCredentials | null;
  /** These pools from now on, in place of all that were; null where they are fixed for the life of the process. */
  setPools: ((pools: readonly PoolEntry[]) => Promise<void>) | null;
  stop(): Promise<void>;
}

/** Longest list: as many pools as a section may have. */
const poolsMessage = z.strictObject({
  type: z.literal('pools'),
  /** `retired`: another takes its place. It is not chosen any more, and asked for its receipts as long as it is here. */
  pools: z.array(poolSchema.extend({ retired: z.boolean().default(false) })).max(256),
});
export type PoolEntry = z.output<typeof poolsMessage>['pools'][number];
export type PoolsMessage = z.input<typeof poolsMessage>;

/** Throws ConfigError, with the remedy, for what the operator can mend. */
export type StartHost = (section: GatewaySection, log: Log) => Promise<GatewayHost>;

function tell(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function sectionOf(line: string): ReturnType<typeof parseSection> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new ConfigError('The first line on stdin is not JSON. Send the gateway section as one line.');
  }
  return parseSection(value);
}

/** What can't be understood changes nothing, and is not answered. */
async function changePools(host: GatewayHost, line: string, log: Log): Promise<void> {
  try {
    const { pools } = poolsMessage.parse(JSON.parse(line));
    await host.setPools?.(pools);
    log.info('pools_changed', { pools: pools.map(({ id, retired }) => (retired ? `${id} (retired)` : id)).join(', ') });
    tell({ type: 'pools' });
  } catch {
    log.error('pools_refused', { reason: 'the line on stdin is no list of pools' });
  }
}

async function serve(start: StartHost, log: Log): Promise<void> {
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const inputEnded = new Promise<'stdin'>((resolve) => lines.once('close', () => resolve('stdin')));
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal));
  });
  const first = new Promise<string>((resolve) => lines.once('line', resolve));
  const stopBeforeStart = Promise.race([inputEnded, signalled]).then(() => null);
  const line = await Promise.race([first, stopBeforeStart]);
  if (line === null) throw new ConfigError('stdin ended before the gateway section came.');

  const host = await start(sectionOf(line), log);
  const { port, baseURL, credentials } = host;
  tell({ type: 'ready', port, baseURL, ...(credentials && { project: credentials.project }) });
  log.info('listening', { port });
  lines.on('line', (line) => void changePools(host, line, log));
  const reason = await Promise.race([inputEnded, signalled]);
  log.info('draining', { reason });
  await host.stop();
}

/** Ends the process when the host has ended. */
export async function runGatewayProcess(start: StartHost): Promise<void> {
  const log = jsonLog((line) => process.stderr.write(line), systemClock.now);
  try {
    await serve(start, log);
    process.exit(0);
  } catch (error) {
    log.error('fatal', errorFields(error));
    const message =
      error instanceof ConfigError ? error.message : 'The gateway failed to start; its log on stderr says where.';
    tell({ type: 'fatal', code: error instanceof ConfigError ? 'config' : 'internal_error', message });
    process.exit(1);
  }
}
