// One life of a supervised process: spawned with its section on stdin, heard on stdout and stderr until it ends. Everything that is
// kept of what it says is bounded.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type ProcessMessage, processMessage } from './processProtocol.ts';

/** Lines of stderr shown when a process dies: the cause is nearly always among the last. */
const KEPT_STDERR_LINES = 20;
const MAX_LINE_CHARS = 2000;

export interface Command {
  /** For messages: `pool`, `gateway`. */
  name: string;
  command: string;
  args: readonly string[];
  /** The whole environment of the child; nothing is added. */
  env: Readonly<Record<string, string | undefined>>;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface ChildListeners {
  onMessage: (message: ProcessMessage) => void;
  onStderr: (line: string) => void;
}

export class Child {
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #stderr: string[] = [];
  #fatal: string | null = null;

  constructor(command: Command, section: unknown, listeners: ChildListeners) {
    this.#process = spawn(command.command, [...command.args], {
      env: { ...command.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which then stops its processes in their order. Should
      // the supervisor die, the end of stdin ends the child.
      detached: true,
    });
    const exited = Promise.withResolvers<Exit>();
    this.exited = exited.promise;
    this.#process.once('error', (error) => {
      this.#keep(`${command.command}: ${error.message}`);
      if (this.#process.pid === undefined) exited.resolve({ code: null, signal: null });
    });
    this.#process.once('close', (code, signal) => exited.resolve({ code, signal }));
    const { stdin, stdout, stderr } = this.#process;
    if (stdout) createInterface({ input: stdout }).on('line', (line) => this.#hear(line, listeners));
    if (stderr)
      createInterface({ input: stderr }).on('line', (line) => {
        this.#keep(line);
        listeners.onStderr(line);
      });
    stdin?.on('error', () => {}); // it died before it read; its exit tells
    stdin?.write(`${JSON.stringify(section)}\n`);
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** One line on its stdin. */
  tell(message: object): void {
    if (this.#process.stdin?.writable) this.#process.stdin.write(`${JSON.stringify(message)}\n`);
  }

  /** Its own last words where it had some, otherwise the end of its stderr. */
  get lastWords(): string {
    return this.#fatal ?? this.#stderr.join('\n');
  }

  /** Asks it to end, and ends it by force after `limitMs`. Resolves when it is gone. */
  async stop(limitMs: number): Promise<Exit> {
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), limitMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  #hear(line: string, listeners: ChildListeners): void {
    const parsed = processMessage.safeParse(jsonOrNull(line));
    if (!parsed.success) {
      listeners.onStderr(line.slice(0, MAX_LINE_CHARS)); // a library that prints
      return;
    }
    if (parsed.data.type === 'fatal') this.#fatal = parsed.data.message;
    listeners.onMessage(parsed.data);
  }

  #keep(line: string): void {
    this.#stderr.push(line.slice(0, MAX_LINE_CHARS));
    if (this.#stderr.length > KEPT_STDERR_LINES) this.#stderr.shift();
  }
}

function jsonOrNull(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
