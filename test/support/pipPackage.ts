// A Python package for tests, installed once, by pip from wheels alone, into a folder of the user's cache that nothing else looks into.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { invariant } from '../../engine/invariant.ts';
import { userCache } from '../../engine/model/modelCache.ts';

const PIP = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'];

/** What the project's own checks must not do without. */
export const MUST_HAVE_PYTHON = process.env.HEARTH_TEST_PYTHON === 'required';

function python(args: readonly string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync('python3', args, { encoding: 'utf8' });
  return { status, said: `${stdout ?? ''}${stderr ?? ''}` };
}

/** Why no package can be had here; null: it can. */
export function whyNoPython(): string | null {
  if (python(['-c', 'import sys; sys.exit(sys.version_info < (3, 9))']).status !== 0)
    return 'there is no Python 3.9 or later';
  if (python(['-m', 'pip', '--version']).status !== 0) return 'Python has no pip';
  return null;
}

/** The folder for PYTHONPATH. `requirement`: `name==version`. Whole or not at all, also when two tests want it at once. */
export function pipPackage(requirement: string): string {
  const folder = join(userCache(process.env), `python-${requirement}`);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const part = mkdtempSync(`${folder}.part-`);
  const { status, said } = python([...PIP, '--target', part, requirement]);
  invariant(status === 0, 'pip installs the package', { requirement, said: said.slice(-2000) });
  if (existsSync(folder)) rmSync(part, { recursive: true });
  else renameSync(part, folder);
  return folder;
}
