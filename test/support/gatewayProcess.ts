// The gateway as its own process on Node, for tests that kill it: a folder and a port that outlive it, and requests over real sockets.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import type { GatewaySectionInput } from '../../gateway/config.ts';
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

const ENTRY = join(import.meta.dirname, '../../gateway/node.ts');
const READY_WITHIN_MS = 30_000;

export class GatewayProcess extends GatewayClient {
  readonly folder = mkdtempSync(join(tmpdir(), 'hearth-gateway-'));
  readonly port: number;
  readonly #section: GatewaySectionInput;
  #child: ChildProcess | undefined;
  #said = '';

  private constructor(port: number, pools: readonly NamedPool[], section: Partial<GatewaySectionInput>) {
    super();
    this.port = port;
    this.#section = {
      ...{ port, dataDir: this.folder, adminKey: ADMIN_KEY, drainMs: 500 },
      pools: pools.map(({ id, url, keyId, secretHex, model }) => ({ id, url, keyId, secretHex, models: [model] })),
      ...section,
    };
  }

  static async start(pools: readonly NamedPool[], section: Partial<GatewaySectionInput> = {}): Promise<GatewayProcess> {
    const gateway = new GatewayProcess(await freePort(), pools, section);
    await gateway.boot();
    return gateway;
  }

  get baseURL(): string {
    return `http://127.0.0.1:${this.port}/v1`;
  }

  /** What it wrote to its log since its first start; the last of it. */
  get log(): string {
    return this.#said;
  }

  /** A new process on what is stored. Resolves when it serves and knows its pools. */
  async boot(): Promise<void> {
    const child = spawn(process.execPath, [ENTRY], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-100_000);
    });
    child.stdin.on('error', () => {}); // killed before it has read its section
    child.stdin.write(`${JSON.stringify(this.#section)}\n`);
    const [line]: string[] = await Promise.race([
      once(createInterface({ input: child.stdout }), 'line'),
      once(child, 'exit').then(() => ['{"type":"gone"}']),
    ]);
    invariant(JSON.parse(line ?? '').type === 'ready', 'the gateway starts', { line, log: this.#said.slice(-2000) });
    for (let waited = 0; waited < READY_WITHIN_MS; waited += 20) {
      if ((await this.request('GET', '/readyz')).ok) return;
      await sleep(20);
    }
    throw new Error('the gateway did not become ready');
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
    return fetch(`http://127.0.0.1:${this.port}${path}`, init);
  }
}
