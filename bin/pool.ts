// `npm run pool`: this machine, or this pod, as one pool that a gateway elsewhere has enrolled. Adapter, model, then the pool's process, which
// announces itself there and drains on SIGTERM. Nothing here starts it again: it ends with its process, with the same code, and whoever runs it
// (systemd, Kubernetes) sees to the rest.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { Child } from '../pool/childProcess.ts';
import { ConfigError, loadConfig } from './config.ts';
import { makeDataFolder } from './dataFolder.ts';
import { planPools } from './poolPlans.ts';
import { ProgressLine } from './progressLine.ts';
import { enrolledSection } from './sections.ts';
import { SECRETS, STOP_MARGIN_MS } from './service.ts';
import { StopSignals } from './stopSignals.ts';

/** As the answer to the enrolment has it: `key`. */
const poolKeyFile = z.object({
  id: z.string().min(1).max(128),
  secret_hex: z.string().regex(/^[0-9a-f]{64}$/, '32 bytes as hex'),
});

const root = fileURLToPath(new URL('..', import.meta.url));
const progress = new ProgressLine(process.stdout, Date.now);
const signals = new StopSignals();
const stop = new AbortController();
let child: Child | null = null;
let stopLimitMs = STOP_MARGIN_MS;

function stopWanted(): void {
  const wish = signals.note(Date.now());
  if (wish === 'kill') child?.kill();
  if (wish !== 'stop') return;
  progress.say('Stopping: running requests may finish. Ctrl-C once more ends them.');
  stop.abort(new Error('stopped'));
  void child?.stop(stopLimitMs);
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stopWanted);
process.on('disconnect', stopWanted); // the launcher is gone

/** Never shows what the file holds. Throws ConfigError. */
function readKey(file: string): { keyId: string; secretHex: string } {
  try {
    const { id, secret_hex } = poolKeyFile.parse(JSON.parse(readFileSync(file, 'utf8')));
    return { keyId: id, secretHex: secret_hex };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'it is not what is wanted';
    throw new ConfigError(
      `enrolled.keyFile: ${file} can't be used (${code}). Write the "key" of the enrolment's answer into it, as JSON with id and secret_hex.`,
    );
  }
}

/** The exit code. */
async function run(): Promise<number> {
  const loaded = loadConfig(root, process.env);
  const { enrolled, pools, server } = loaded.config;
  if (!enrolled) throw new ConfigError('npm run pool needs the section "enrolled": where the gateway is, and its key.');
  if (pools.length !== 1)
    throw new ConfigError(`npm run pool runs one pool, and "pools" names ${pools.length}: leave one.`);
  const identity = { poolId: enrolled.id, ...readKey(enrolled.keyFile) };
  makeDataFolder(server.dataDir);
  const [plan] = await planPools(loaded, { progress, env: process.env, signal: stop.signal });
  if (!plan || stop.signal.aborted) return 0;
  const own = Object.fromEntries(Object.entries(process.env).filter(([key]) => !SECRETS.includes(key)));
  stopLimitMs = server.drainMs + STOP_MARGIN_MS;
  child = new Child(
    {
      ...{ name: 'pool', command: process.execPath, args: [join(root, plan.script)] },
      env: { ...own, ...plan.env },
    },
    enrolledSection(plan.section(identity, enrolled.port), enrolled),
    {
      onMessage: (message) => {
        if (message.type === 'progress') progress.share(`Starting: ${message.stage}`, message.done, message.total);
        if (message.type === 'ready') progress.say(`The pool ${enrolled.id} serves ${plan.models.join(', ')}.`);
      },
      onStderr: (line) => process.stderr.write(`${line}\n`),
    },
  );
  const { code } = await child.exited;
  if (code !== 0) progress.say(`hearth: the pool process ended: ${child.lastWords}`);
  return code ?? 1;
}

try {
  process.exit(await run());
} catch (error) {
  if (stop.signal.aborted) process.exit(0);
  progress.say(`hearth: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
