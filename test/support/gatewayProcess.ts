// The gateway as its own process on Node, for tests that kill it: a folder and a port that outlive it, and requests over real sockets.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import type { GatewaySectionInput } from '../../gateway/config.ts';
import type { PoolsMessage } from '../../gateway/processProtocol.ts';
import { freePort } from './freePort.ts';
import { ADMIN_KEY, GatewayClient } from './gatewayClient.ts';

/** A pool as a section names it, with the one model that it serves. */
export interface NamedPool {
  id: string;
  url: string;
  keyId: string;
  secretHex: string;
  model: string;
}

/** How its process is begun, where that is not as this one is. */
export interface Launch {
  env?: NodeJS.ProcessEnv;
  /** Words before Node's own: a command that runs it somewhere else. */
  within?: readonly string[];
}

const ENTRY = join(import.meta.dirname, '../../gateway/node.ts');
const READY_WITHIN_MS = 30_000;

export class GatewayProcess extends GatewayClient {
  readonly folder = mkdtempSync(join(tmpdir(), 'hearth-gateway-'));
  readonly port: number;
  readonly #section: GatewaySectionInput;
  readonly #launch: Launch;
  #child: ChildProcess | undefined;
  #lines: Interface | undefined;
  #said = '';

  private constructor(
    port: number,
    pools: readonly NamedPool[],
    section: Partial<GatewaySectionInput>,
    launch: Launch,
  ) {
    super();
    this.port = port;
    this.#launch = launch;
    this.#section = {
      ...{ port, dataDir: this.folder, adminKey: ADMIN_KEY, drainMs: 500 },
      pools: pools.map(({ id, url, keyId, secretHex, model }) => ({ id, url, keyId, secretHex, models: [model] })),
      ...section,
    };
  }

  static async start(
    pools: readonly NamedPool[],
    section: Partial<GatewaySectionInput> = {},
    launch: Launch = {},
  ): Promise<GatewayProcess> {
    const gateway = new GatewayProcess(await freePort(), pools, section, launch);
    await gateway.boot();
    return gateway;
  }

  get baseURL(): string {
    return `http://${this.#host}:${this.port}/v1`;
  }

  get #host(): string {
    return this.#section.host ?? '127.0.0.1';
  }

  /** 0: none runs. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What it wrote to its log since its first start; the last of it. */
  get log(): string {
    return this.#said;
  }

  /** A new process on what is stored. Resolves when it serves and knows its pools. */
  async boot(): Promise<void> {
    const { env = process.env, within = [] } = this.#launch;
    const [command = '', ...args] = [...within, process.execPath, ENTRY];
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-100_000);
    });
    child.stdin.on('error', () => {}); // killed before it has read its section
    child.stdin.write(`${JSON.stringify(this.#section)}\n`);
    const lines = createInterface({ input: child.stdout });
    this.#lines = lines;
    const [line]: string[] = await Promise.race([
      once(lines, 'line'),
      once(child, 'exit').then(() => ['{"type":"gone"}']),
    ]);
    invariant(JSON.parse(line ?? '').type === 'ready', 'the gateway starts', { line, log: this.#said.slice(-2000) });
    for (let waited = 0; waited < READY_WITHIN_MS; waited += 20) {
      if ((await this.request('GET', '/readyz')).ok) return;
      await sleep(20);
    }
    throw new Error('the gateway did not become ready');
  }

  /** These pools from now on, in place of all that were. Resolves when it has them. */
  async setPools(pools: PoolsMessage['pools']): Promise<void> {
    invariant(this.#child?.stdin && this.#lines, 'the gateway runs');
    const answered = once(this.#lines, 'line');
    this.#child.stdin.write(`${JSON.stringify({ type: 'pools', pools })}\n`);
    const [line]: string[] = await answered;
    invariant(JSON.parse(line ?? '').type === 'pools', 'the gateway takes the pools', { line });
  }

  /** As SIGKILL is: at once, whatever runs. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  protected ask(path: string, init: RequestInit): Promise<Response> {
    return fetch(`http://${this.#host}:${this.port}${path}`, init);
  }
}
