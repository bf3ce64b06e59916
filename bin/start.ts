// `npm start`: configuration, adapter, model; then the pool process, then the gateway process; then what somebody needs to use them. Runs
// until it is told to stop, and leaves nothing behind: the gateway drains while the pool still computes, then the pool goes. `npm run edge`
// is the same with the Worker in the Node gateway's place and a data folder of its own: each has its ledger, and a pool's receipts are for one.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { banner } from './banner.ts';
import { type LoadedConfig, loadConfig } from './config.ts';
import { ProgressLine } from './progressLine.ts';
import { Service } from './service.ts';
import { StopSignals } from './stopSignals.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const progress = new ProgressLine(process.stdout, Date.now);
const edge = process.argv.includes('--edge');
const service = new Service(root, process.env, progress, edge ? 'bin/edgeGateway.ts' : 'gateway/node.ts');
const signals = new StopSignals();

function configuration(): LoadedConfig {
  const loaded = loadConfig(root, process.env);
  const { server } = loaded.config;
  const dataDir = edge ? join(server.dataDir, 'edge') : server.dataDir;
  return { ...loaded, config: { ...loaded.config, server: { ...server, dataDir } } };
}

function stopWanted(): void {
  const wish = signals.note(Date.now());
  if (wish === 'stop') {
    progress.say('\nStopping: running requests may finish. Ctrl-C once more ends them.');
    service.stop().then(
      () => process.exit(0),
      (error) => fail(error),
    );
  }
  if (wish === 'kill') {
    service.kill();
    process.exit(130);
  }
}

/** From a terminal it says that the terminal is gone; otherwise it asks for new processes with the configuration as it is now. */
function hangUp(): void {
  if (process.stdout.isTTY || edge) stopWanted();
  else if (!signals.stopping) void service.reload(configuration);
}

function fail(error: unknown): void {
  progress.say(`hearth: ${error instanceof Error ? error.message : String(error)}`);
  service.stop().finally(() => process.exit(1));
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stopWanted);
process.on('SIGHUP', hangUp);
process.on('disconnect', stopWanted); // the launcher is gone

try {
  const began = performance.now();
  const ready = await service.start(configuration());
  progress.say(banner({ ...ready, seconds: (performance.now() - began) / 1000 }));
  service.failed.then(fail);
} catch (error) {
  if (!service.stopping) fail(error);
}
