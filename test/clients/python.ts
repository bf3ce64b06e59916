// The official client for Python, unmodified, in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { invariant } from '../../engine/invariant.ts';
import { pipPackage } from '../support/pipPackage.ts';
import type { Call, Client, Told } from './port.ts';

const PACKAGE = 'openai==3.57.0';

export class PythonClient implements Client {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (told: Told) => void>();
  #calls = 0;

  constructor() {
    const script = join(import.meta.dirname, 'client.py');
    this.#child = spawn('python3', [script], {
      env: { ...process.env, PYTHONPATH: pipPackage(PACKAGE) },
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
