// A gateway in this process before a pool process over the simulated runner: everything between a client's request and the engine's
// block manager is real, and a prompt costs a millisecond.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseSection } from '../../gateway/config.ts';
import { jsonLog } from '../../gateway/log.ts';
import { startGateway } from '../../gateway/nodeHost.ts';
import type { GatewayHost } from '../../gateway/processProtocol.ts';
import type { PrefixDeclaration } from '../../pool/wire/publicPrefixes.ts';
import { type PagedPool, type PagedPoolOptions, startPagedPool } from './pagedPool.ts';

const ADMIN_KEY = 'sk-admin-of-the-paged-system';

export interface PagedSystemOptions extends PagedPoolOptions {
  publicPrefixes?: PrefixDeclaration[];
}

export interface Completion {
  text: string;
  cached: number;
}

export class PagedSystem {
  readonly pool: PagedPool;
  readonly logged: string[] = [];
  readonly #options: PagedSystemOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), 'hearth-'));
  #gateway!: GatewayHost;

  private constructor(pool: PagedPool, options: PagedSystemOptions) {
    this.pool = pool;
    this.#options = options;
  }

  static async start(options: PagedSystemOptions = {}): Promise<PagedSystem> {
    const system = new PagedSystem(await startPagedPool(options), options);
    await system.startGateway();
    return system;
  }

  async startGateway(): Promise<void> {
    const { url, poolId, keyId, secret } = this.pool.address;
    const section = parseSection({
      ...{ port: 0, dataDir: this.#folder, adminKey: ADMIN_KEY, drainMs: 1000 },
      pools: [{ id: poolId, url, keyId, secretHex: Buffer.from(secret).toString('hex') }],
      publicPrefixes: this.#options.publicPrefixes ?? [],
    });
    this.#gateway = await startGateway(
      section,
      jsonLog((line) => this.logged.push(line), Date.now),
    );
    await this.eventually('the gateway is ready', async () => (await fetch(this.#url('/readyz'))).ok);
  }

  async stopGateway(): Promise<void> {
    await this.#gateway.stop();
  }

  async close(): Promise<void> {
    await this.stopGateway();
    await this.pool.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async admin<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.#ask(ADMIN_KEY, method, `/v1/organization${path}`, body);
  }

  /** A new project and the key of a service account of it. */
  async tenant(): Promise<{ id: string; key: string }> {
    const { id } = await this.admin<{ id: string }>('POST', '/projects', { name: 'test' });
    return { id, key: await this.key(id) };
  }

  async key(project: string): Promise<string> {
    const path = `/projects/${project}/service_accounts`;
    return (await this.admin<{ api_key: { value: string } }>('POST', path, { name: 'test' })).api_key.value;
  }

  /** Four tokens after the prompt, and how much of the prompt the cache answered. */
  async complete(key: string, prompt: string | number[], over: object = {}): Promise<Completion> {
    const body = { model: 'bytes', prompt, max_tokens: 4, seed: 1, ...over };
    return completionOf(await this.#ask(key, 'POST', '/v1/completions', body));
  }

  async chat(key: string, messages: { role: string; content: string }[], over: object = {}): Promise<Completion> {
    const body = { model: 'bytes', messages, max_tokens: 4, seed: 1, ...over };
    return completionOf(await this.#ask(key, 'POST', '/v1/chat/completions', body));
  }

  /** A tenant's request, `path` below /v1, and its answer. */
  async ask<T>(key: string, path: string, body: object): Promise<T> {
    return this.#ask(key, 'POST', `/v1${path}`, body);
  }

  /** The chunks of its stream. */
  async stream<T>(key: string, path: string, body: object): Promise<T[]> {
    const text = await this.#send(key, 'POST', `/v1${path}`, body);
    const data = text.split('\n\n').flatMap((frame) => (frame.startsWith('data: ') ? frame.slice(6) : []));
    if (data.pop() !== '[DONE]') throw new Error(`the stream ends without [DONE]: ${text.slice(-200)}`);
    return data.map((one) => JSON.parse(one));
  }

  async eventually(what: string, probe: () => Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 300; tries++) {
      if (await probe().catch(() => false)) return;
      await sleep(50);
    }
    throw new Error(`never came: ${what}\n${this.logged.slice(-20).join('')}`);
  }

  #url(path: string): string {
    return `http://127.0.0.1:${this.#gateway.port}${path}`;
  }

  async #ask<T>(key: string, method: string, path: string, body?: unknown): Promise<T> {
    return JSON.parse(await this.#send(key, method, path, body));
  }

  async #send(key: string, method: string, path: string, body?: unknown): Promise<string> {
    const response = await fetch(this.#url(path), {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text;
  }
}

interface CompletionBody {
  choices: { text?: string; message?: { content: string } }[];
  usage: { prompt_tokens_details?: { cached_tokens: number } };
}

function completionOf({ choices, usage }: CompletionBody): Completion {
  const [choice] = choices;
  return {
    text: choice?.text ?? choice?.message?.content ?? '',
    cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
  };
}
