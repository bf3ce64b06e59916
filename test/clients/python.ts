// The official client for Python, unmodified, in a process of its own. It is installed once, by pip from wheels alone, into a folder of
// the user's cache that nothing else looks into.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { invariant } from '../../engine/invariant.ts';
import { userCache } from '../../engine/model/modelCache.ts';
import type { Call, Client, Told } from './port.ts';

const PACKAGE = 'openai==3.57.0';
const PIP = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'];

function python(args: readonly string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync('python3', args, { encoding: 'utf8' });
  return { status, said: `${stdout ?? ''}${stderr ?? ''}` };
}

/** Why there is no such client here; null: there can be one. */
export function whyNoPython(): string | null {
  if (python(['-c', 'import sys; sys.exit(sys.version_info < (3, 9))']).status !== 0)
    return 'there is no Python 3.9 or later';
  if (python(['-m', 'pip', '--version']).status !== 0) return 'Python has no pip';
  return null;
}

/** Whole or not at all, also when two tests want it at once. */
function installed(): string {
  const folder = join(userCache(process.env), `python-${PACKAGE}`);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const part = mkdtempSync(`${folder}.part-`);
  const { status, said } = python([...PIP, '--target', part, PACKAGE]);
  invariant(status === 0, 'pip installs the client', { said: said.slice(-2000) });
  if (existsSync(folder)) rmSync(part, { recursive: true });
  else renameSync(part, folder);
  return folder;
}

export class PythonClient implements Client {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (told: Told) => void>();
  #calls = 0;

  constructor() {
    const script = join(import.meta.dirname, 'client.py');
    this.#child = spawn('python3', [script], {
      env: { ...process.env, PYTHONPATH: installed() },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    invariant(this.#child.stdout, 'its output is read');
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const { id, told }: { id: number; told: Told } = JSON.parse(line);
      this.#waiting.get(id)?.(told);
      this.#waiting.delete(id);
    });
  }

  call(call: Call): Promise<Told> {
    const id = this.#calls++;
    this.#child.stdin?.write(`${JSON.stringify({ id, ...call })}\n`);
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin?.end();
    await ended;
  }
}
