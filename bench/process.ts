// A contender in a process of its own, which lives for the whole run: what it loads and compiles is in no figure. A task is a line of JSON on its
// stdin, the figures a line on its stdout.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Contender, Figures, Task } from './bench.ts';

/** A prompt of 4,096 tokens on a slow adapter; beyond it hangs. */
const TASK_LIMIT_MS = 900_000;

export class ContenderProcess implements Contender {
  readonly name: string;
  /** What its first line tells of it: adapter, version. */
  about: Readonly<Record<string, string>> = {};
  readonly #child: ChildProcess;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];

  /** `script` is run by this Node with `setup` as its argument. Resolves when it can be asked. */
  static async start(name: string, script: string, setup: object, env: NodeJS.ProcessEnv): Promise<ContenderProcess> {
    const started = new ContenderProcess(name, script, setup, env);
    started.about = JSON.parse(await started.#next());
    return started;
  }

  private constructor(name: string, script: string, setup: object, env: NodeJS.ProcessEnv) {
    this.name = name;
    this.#child = spawn(process.execPath, [script, JSON.stringify(setup)], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.resolve(line));
    this.#child.on('exit', (code, signal) => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(`${name} ended with ${code ?? signal}`));
    });
  }

  async ask(task: Task): Promise<Figures> {
    this.#child.stdin!.write(`${JSON.stringify(task)}\n`);
    return JSON.parse(await this.#next());
  }

  end(): void {
    this.#child.stdin!.end();
    this.#child.kill();
  }

  #next(): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#child.exitCode !== null) return reject(new Error(`${this.name} has ended`));
      const late = setTimeout(() => reject(new Error(`${this.name} gives no answer`)), TASK_LIMIT_MS);
      const settled =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(late);
          then(value);
        };
      this.#waiting.push({ resolve: settled(resolve), reject: settled(reject) });
    });
  }
}
