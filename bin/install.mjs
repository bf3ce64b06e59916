// Installs packages only when some are missing: the lockfile against what npm wrote down about node_modules. More installed than
// needed is fine, so `npm start` after `npm test` changes nothing. Runs on Node 18, before any package is there.
import { spawn } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What an install takes on disk, measured on linux-x64; told beforehand, so that nobody wonders. */
const RUNTIME_SIZE = 'about 420 MB on disk';
const FULL_SIZE = 'about 840 MB on disk';
const TERMINAL_INTERVAL_MS = 1000;
const LOG_INTERVAL_MS = 5000;

function packagesIn(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages ?? {};
  } catch {
    return {};
  }
}

/** Paths of packages that the lockfile wants and node_modules lacks or has in another version. Optional ones may be absent. */
export function missingPackages(root, dev) {
  const wanted = Object.entries(packagesIn(join(root, 'package-lock.json'))).filter(
    ([path, { dev: isDev, optional, devOptional }]) => path !== '' && !optional && !devOptional && (dev || !isDev),
  );
  if (wanted.length === 0)
    throw new Error(`package-lock.json in ${root} is missing or empty; check out the repository again`);
  const installed = packagesIn(join(root, 'node_modules/.package-lock.json'));
  return wanted.filter(([path, { version }]) => installed[path]?.version !== version).map(([path]) => path);
}

/** Something that only `npm test` and development need is installed: then a reinstall keeps it. */
function hasDevPackages(root) {
  return Object.values(packagesIn(join(root, 'node_modules/.package-lock.json'))).some(({ dev }) => dev === true);
}

/** What lies there; a file with several names, as the binary of Node has, counts once. */
function folderBytes(folder, seen = new Set()) {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) bytes += folderBytes(path, seen);
      else {
        const { size, ino, nlink } = lstatSync(path);
        if (nlink > 1 && seen.has(ino)) continue;
        seen.add(ino);
        bytes += size;
      }
    }
  } catch {
    // npm moves folders while it works; the next look counts them
  }
  return bytes;
}

/** npm itself, as it was called; a name on the PATH where something else called. */
function npmCommand() {
  const script = process.env.npm_execpath ?? '';
  return /npm-cli\.c?js$/.test(script) ? [process.execPath, [script]] : ['npm', []];
}

/** Runs `npm ci`. Resolves with null, or with what went wrong and what to do about it. */
export function install(root, dev, missing) {
  const full = dev || hasDevPackages(root);
  const began = Date.now();
  const terminal = process.stdout.isTTY === true;
  const say = (text, end) => process.stdout.write(terminal ? `\r${text}\x1b[K${end ? '\n' : ''}` : `${text}\n`);
  say(
    `Installing ${full ? 'packages' : 'runtime packages'} (${missing.length} to get, ${full ? FULL_SIZE : RUNTIME_SIZE}; once, usually under a minute)`,
    true,
  );
  const [file, before] = npmCommand();
  const args = [...before, 'ci', full ? '--include=dev' : '--omit=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = spawn(file, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const modules = join(root, 'node_modules');
  const seconds = () => Math.round((Date.now() - began) / 1000);
  const progress = () => `Installing: ${(folderBytes(modules) / 1e6).toFixed(0)} MB after ${seconds()} s`;
  const timer = setInterval(() => say(progress(), false), terminal ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS);
  return new Promise((resolve) => {
    const finish = (problem) => {
      clearInterval(timer);
      if (!problem) say(`Installed ${(folderBytes(modules) / 1e6).toFixed(0)} MB in ${seconds()} s`, true);
      resolve(problem);
    };
    npm.on('error', (error) => finish(`npm did not start (${error.message}). Install npm, or put it on the PATH.`));
    npm.on('exit', (code, signal) => {
      if (code === 0) return finish(null);
      finish(
        `npm ci failed (${signal ?? `exit code ${code}`}); its own words stand above. Usual causes: no network or registry reachable ` +
          '(npm ping), no room on the disk (df -h .), or no right to write here.',
      );
    });
  });
}
