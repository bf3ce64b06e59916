// The Worker in workerd, for tests: its real bundle, real Durable Objects and D1 on a folder that outlives a restart, beside a scripted pool.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Log, LogLevel, Miniflare } from 'miniflare';
import { bundleWorker } from '../../bin/edgeBundle.ts';
import { workerSettings } from '../../bin/edgeSettings.ts';
import { invariant } from '../../engine/invariant.ts';
import { d1Migrations, statementsOf } from '../../gateway/edge/d1Migrations.ts';
import type { Lever } from '../edge/testWorker.ts';
import { parseBytes, stringifyBytes } from './bytesInJson.ts';
import { ADMIN_KEY, GatewayClient } from './gatewayClient.ts';
import { DEFAULTS, LIMITS } from './gatewayRig.ts';
import type { ScriptedPool } from './scriptedPool.ts';

const root = join(import.meta.dirname, '../..');
const bundle = bundleWorker(join(root, 'test/edge/testWorker.ts'));

/** Settings of a test: what is looked after soon, is settled soon. */
export interface EdgeOptions {
  lookAfterMs?: number;
  feedDelayMs?: number;
  limits?: Partial<typeof LIMITS>;
  /** Pools beside the first. */
  others?: readonly ScriptedPool[];
}

export class EdgeRig extends GatewayClient {
  readonly folder = mkdtempSync(join(tmpdir(), 'hearth-edge-'));
  readonly #pool: ScriptedPool;
  readonly #options: EdgeOptions;
  readonly #script: string;
  #workerd: Miniflare | undefined;
  #url = '';

  private constructor(pool: ScriptedPool, options: EdgeOptions, script: string) {
    super();
    this.#pool = pool;
    this.#options = options;
    this.#script = script;
  }

  static async start(pool: ScriptedPool, options: EdgeOptions = {}): Promise<EdgeRig> {
    const rig = new EdgeRig(pool, options, await bundle);
    await rig.boot();
    for (const { text } of d1Migrations()) for (const statement of statementsOf(text)) await rig.sql(statement);
    return rig;
  }

  get baseURL(): string {
    return `${this.#url}/v1`;
  }

  get #running(): Miniflare {
    invariant(this.#workerd, 'workerd runs');
    return this.#workerd;
  }

  /** A new workerd process on what is stored. */
  async boot(): Promise<void> {
    const limits = { ...LIMITS, ...this.#options.limits };
    const { lookAfterMs = 30_000, feedDelayMs = 50 } = this.#options;
    const pools = [this.#pool, ...(this.#options.others ?? [])];
    const secret = (byte: string) => byte.repeat(32);
    this.#workerd = new Miniflare({
      ...workerSettings(root),
      modules: true,
      script: this.#script,
      host: '127.0.0.1',
      port: 0,
      log: new Log(LogLevel.ERROR),
      defaultPersistRoot: this.folder,
      durableObjects: {
        TENANTS: { className: 'OpenLedger', useSQLite: true },
        STILL: { className: 'StillLedger', useSQLite: true },
      },
      d1Databases: { DB: 'hearth' },
      bindings: {
        HEARTH_ADMIN_KEY: ADMIN_KEY,
        HEARTH_NAMESPACE_SECRET: secret('01'),
        HEARTH_PEPPERS: JSON.stringify([{ version: 1, secretHex: secret('02') }]),
        HEARTH_POOLS: JSON.stringify(
          pools.map(({ id, url, keyId, secretHex, model }) => ({ id, url, keyId, secretHex, models: [model] })),
        ),
        HEARTH_SETTINGS: JSON.stringify({
          defaults: DEFAULTS,
          limits,
          upkeep: { lookAfterMs, feedDelayMs },
        }),
      },
    });
    this.#url = (await this.#running.ready).href.replace(/\/$/, '');
  }

  /** Every invocation and object ends with its process. */
  async halt(): Promise<void> {
    await this.#workerd?.dispose();
    this.#workerd = undefined;
  }

  async stop(): Promise<void> {
    await this.halt();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A lever of the test Worker on one object. Throws what the object threw, as text. */
  async pull<T>(object: string, lever: Lever, binding: 'tenants' | 'still' = 'tenants'): Promise<T> {
    const path = `${this.#url}/test/${binding}/${encodeURIComponent(object)}`;
    const response = await fetch(path, { method: 'POST', body: stringifyBytes(lever) });
    const { value, error } = parseBytes<{ value: T; error?: string }>(await response.text());
    if (error !== undefined) throw new Error(error);
    return value;
  }

  /** One statement on D1. */
  async sql(text: string): Promise<void> {
    const db = await this.#running.getD1Database('DB');
    await db.prepare(text).run();
  }

  protected async ask(path: string, init: RequestInit): Promise<Response> {
    return fetch(`${this.#url}${path}`, init);
  }
}
