// The door for `npm start`, `npm test` and the other commands. Runs on the machine's own Node, from 18 on, and on nothing else: it
// installs what the command needs and lacks, then hands over to Node 24 (the npm package `node`), which runs the TypeScript as it is.
// Signals go to that process, and its exit code is ours.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { install, missingPackages } from './install.mjs';

/** Type stripping without a flag, node:sqlite and explicit resource management came with it. */
const MIN_NODE_MAJOR = 24;

/** How often the shell that npm runs us in is looked after. */
const PARENT_WATCH_MS = 500;

const COMMANDS = {
  start: { entry: 'bin/start.ts', dev: false },
  pool: { entry: 'bin/pool.ts', dev: false },
  doctor: { entry: 'bin/doctor.ts', dev: false },
  test: { entry: 'bin/test.ts', dev: true },
  deliver: { entry: 'bin/deliver.ts', dev: false },
  reconcile: { entry: 'bin/reconcile.ts', dev: false },
  edge: { entry: 'bin/start.ts', dev: true, args: ['--edge'] },
  'edge:migrations': { entry: 'bin/writeD1Migrations.ts', dev: true },
  bench: { entry: 'bench/run.ts', dev: true },
  'bench:cache': { entry: 'bench/cache.ts', dev: true },
  'bench:gateway': { entry: 'bench/gateway.ts', dev: true },
  'bench:ledger': { entry: 'bench/ledger.ts', dev: true },
  'bench:speculation': { entry: 'bench/speculation.ts', dev: true },
  'bench:step': { entry: 'bench/step/run.ts', dev: true },
  'bench:kernels': { entry: 'bench/kernels/run.ts', dev: true },
  chaos: { entry: 'test/chaos/run.ts', dev: true },
  'chaos:streams': { entry: 'test/chaos/runStreams.ts', dev: true },
  soak: { entry: 'test/soak/run.ts', dev: true },
  'sim:cache': { entry: 'bench/simCache.ts', dev: true },
  'sim:routing': { entry: 'bench/simRouting.ts', dev: true },
  'kubernetes:render': { entry: 'bin/writeKubernetes.ts', dev: true },
  'config:schema': { entry: 'bin/writeSchema.ts', dev: true },
};

const root = fileURLToPath(new URL('..', import.meta.url));

function fail(message) {
  process.stderr.write(`hearth: ${message}\n`);
  process.exit(1);
}

const [name = '', ...args] = process.argv.slice(2);
const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
if (!command) fail(`unknown command ${JSON.stringify(name)}; there are: ${Object.keys(COMMANDS).join(', ')}`);

const missing = missingPackages(root, command.dev);
if (missing.length > 0) {
  const problem = await install(root, command.dev, missing);
  if (problem) fail(problem);
}

/** The major version of a Node binary; null where it doesn't run. */
function majorOf(binary) {
  const { status, stdout } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  const major = status === 0 && /^v(\d+)\./.exec(stdout)?.[1];
  return major ? Number(major) : null;
}

function findNode() {
  if (Number(process.versions.node.split('.')[0]) >= MIN_NODE_MAJOR) return process.execPath;
  const binary = join(root, 'node_modules/node/bin', process.platform === 'win32' ? 'node.exe' : 'node');
  const major = existsSync(binary) ? majorOf(binary) : null;
  if (major !== null && major >= MIN_NODE_MAJOR) return binary;
  const found = major === null ? 'its binary is not there or does not run' : `it is version ${major}`;
  return fail(
    `needs Node ${MIN_NODE_MAJOR}. This is Node ${process.versions.node}, and the npm package "node" was to bring it, but ${found}: ` +
      'its install script did not run. Try: npm rebuild node --ignore-scripts=false\n' +
      `Or run ${name} with an installed Node ${MIN_NODE_MAJOR} or newer.`,
  );
}

/** Where Node keeps what it has compiled, types stripped: a quarter second less for each process and thread that starts. Beside the models. */
const compiled = join(process.env.XDG_CACHE_HOME || join(process.env.HOME || homedir(), '.cache'), 'hearth/compiled');

const node = findNode();
const binaries = join(root, 'node_modules/.bin');
const child = spawn(node, [join(root, command.entry), ...(command.args ?? []), ...args], {
  cwd: root,
  // The channel tells the process when this one is gone, also by SIGKILL.
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  env: {
    NODE_COMPILE_CACHE: compiled,
    ...process.env,
    PATH: [binaries, process.env.PATH].filter(Boolean).join(delimiter),
  },
});
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
for (const signal of signals) process.on(signal, () => child.kill(signal));
// npm passes a signal to the shell between us, and that shell dies of it without a word to us: its death is the signal then.
if (process.env.npm_lifecycle_event) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    child.kill('SIGTERM');
  }, PARENT_WATCH_MS);
}
child.on('error', (error) => fail(`could not start ${node}: ${error.message}`));
child.on('exit', (code, signal) => {
  if (!signal) process.exit(code ?? 1);
  for (const each of signals) process.removeAllListeners(each);
  process.kill(process.pid, signal);
});
