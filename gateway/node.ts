// The gateway's process: its section comes as one JSON line on stdin (no secret in argv or environment), JSON lines {"type":"ready"}
// or {"type":"fatal"} go to stdout, logs to stderr. SIGTERM, SIGINT or the end of stdin (the supervisor died) drain and exit.
import { createInterface } from 'node:readline';
import { systemClock } from './clock.ts';
import { ConfigError, parseSection } from './config.ts';
import { errorFields, jsonLog } from './log.ts';
import { type GatewayHost, startGateway } from './nodeHost.ts';

const log = jsonLog((line) => process.stderr.write(line), systemClock.now);

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

async function main(): Promise<void> {
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const inputEnded = new Promise<'stdin'>((resolve) => lines.once('close', () => resolve('stdin')));
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal));
  });
  const first = new Promise<string>((resolve) => lines.once('line', resolve));
  const stopBeforeStart = Promise.race([inputEnded, signalled]).then(() => null);
  const line = await Promise.race([first, stopBeforeStart]);
  if (line === null) throw new ConfigError('stdin ended before the gateway section came.');

  const host: GatewayHost = await startGateway(sectionOf(line), log);
  const { port, baseURL, credentials } = host;
  tell({ type: 'ready', port, baseURL, ...(credentials && { project: credentials.project }) });
  log.info('listening', { port });
  const reason = await Promise.race([inputEnded, signalled]);
  log.info('draining', { reason });
  await host.stop();
}

try {
  await main();
  process.exit(0);
} catch (error) {
  log.error('fatal', errorFields(error));
  const message =
    error instanceof ConfigError ? error.message : 'The gateway failed to start; its log on stderr says where.';
  tell({ type: 'fatal', code: error instanceof ConfigError ? 'config' : 'internal_error', message });
  process.exit(1);
}
