// The Node gateway in this process, on a folder of its own, before pools that come and go.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSection } from '../../gateway/config.ts';
import { jsonLog } from '../../gateway/log.ts';
import { startGateway } from '../../gateway/nodeHost.ts';
import type { GatewayHost, PoolEntry } from '../../gateway/processProtocol.ts';
import { ADMIN_KEY, GatewayClient, type Tenant } from './gatewayClient.ts';

export interface Answer {
  status: number;
  text: string;
  retryAfter: string | null;
}

export class FleetGateway extends GatewayClient {
  readonly host: GatewayHost;
  readonly #folder: string;
  #tenant: Tenant | null = null;

  private constructor(host: GatewayHost, folder: string) {
    super();
    this.host = host;
    this.#folder = folder;
  }

  static async start(pools: readonly PoolEntry[]): Promise<FleetGateway> {
    const folder = mkdtempSync(join(tmpdir(), 'hearth-'));
    const section = parseSection({
      ...{ port: 0, dataDir: folder, adminKey: ADMIN_KEY, drainMs: 1000 },
      pools: pools.map(({ retired: _, ...pool }) => pool),
    });
    const log = jsonLog(() => {}, Date.now);
    return new FleetGateway(await startGateway(section, log), folder);
  }

  async close(): Promise<void> {
    await this.host.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** As many as the metrics tell. */
  async readyPools(): Promise<number> {
    const text = await (await this.request('GET', '/metrics', { key: ADMIN_KEY })).text();
    return text.split('\n').filter((line) => /^hearth_gateway_pool_ready\{.*\} 1$/.test(line)).length;
  }

  async complete(prompt: string, maxTokens: number): Promise<Answer> {
    this.#tenant ??= await this.tenant();
    const body = { model: 'bytes', prompt, max_tokens: maxTokens, seed: 1 };
    const answer = await this.request('POST', '/v1/completions', { key: this.#tenant.key, body });
    const retryAfter = answer.headers.get('retry-after');
    return { status: answer.status, text: await answer.text(), retryAfter };
  }

  protected ask(path: string, init: RequestInit): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.host.port}${path}`, init);
  }
}
