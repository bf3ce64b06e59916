// How a gateway's process talks to what started it: its section comes as one JSON line on stdin (no secret in argv or environment), JSON
// lines {"type":"ready"} or {"type":"fatal"} go to stdout, logs to stderr. SIGTERM, SIGINT or the end of stdin (the supervisor died) drain
// and exit.
import { createInterface } from 'node:readline';
import { systemClock } from './clock.ts';
import { ConfigError, type GatewaySection, parseSection } from './config.ts';
import type { DevCredentials } from './devCredentials.ts';
import { errorFields, jsonLog, type Log } from './log.ts';

export interface GatewayHost {
  port: number;
  baseURL: string;
  /** In development mode on loopback. */
  credentials: DevCredentials | null;
  stop(): Promise<void>;
}

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
