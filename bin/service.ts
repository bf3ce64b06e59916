// The processes of a single machine and the order of their lives:
//
//   start:  port free? ─▶ adapters ─▶ models ─▶ pools warm ─▶ gateway listens      stop:  gateway drains ─▶ pools drain
//   reload: configuration ─▶ models ─▶ pool after pool: the new one warm ─▶ the gateway has it ─▶ the old one drains
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isLoopback } from '../gateway/config.ts';
import { GATEWAY_NODE_FLAGS, type PoolsMessage } from '../gateway/processProtocol.ts';
import { healthStatus } from '../pool/healthCheck.ts';
import { POOL_HEALTH, Supervisor, type SupervisorOptions, type SupervisorState } from '../pool/supervisor.ts';
import type { Ready } from './banner.ts';
import { ConfigError, type LoadedConfig } from './config.ts';
import { isForeign } from './configSchema.ts';
import { makeDataFolder } from './dataFolder.ts';
import { LogFile } from './logFile.ts';
import { PoolFleet } from './poolFleet.ts';
import { type PoolPlan, planPools } from './poolPlans.ts';
import { portProblem } from './portCheck.ts';
import type { ProgressLine } from './progressLine.ts';
import { gatewaySectionOf, journalFolder, POOL_HOST } from './sections.ts';

/** Past its own drain bound a process gets this long to close its files. */
export const STOP_MARGIN_MS = 10_000;
/** The pool is warm by then and the gateway asks it each second: longer means that something is wrong. */
const READY_LIMIT_MS = 30_000;
const READY_INTERVAL_MS = 50;
/** A gateway that takes longer to take over a list of pools is starting, or dead. */
const ANNOUNCE_LIMIT_MS = 10_000;
const GATEWAY_HEALTH = { ...POOL_HEALTH, path: '/healthz' };
/** Secrets of ours stay out of the environment of what we start; so does a foreign server's key, but for its own pool. */
export const SECRETS: readonly string[] = ['HEARTH_ADMIN_KEY', 'HEARTH_PEPPER', 'HF_TOKEN'];

/** The gateway on Node, or the Worker in workerd. */
export type GatewayScript = 'gateway/node.ts' | 'bin/edgeGateway.ts';

const NODE_FLAGS: Readonly<Record<GatewayScript, readonly string[]>> = {
  'gateway/node.ts': GATEWAY_NODE_FLAGS,
  'bin/edgeGateway.ts': [],
};

interface Supervised extends Pick<SupervisorOptions, 'host' | 'health' | 'onMemory' | 'onAnnounced'> {
  script: string;
  nodeFlags?: readonly string[];
  env: Readonly<Record<string, string>>;
  section: (port: number | null) => { drainMs?: number | undefined };
}

/** All processes run, but requests would be refused. */
export class NotReady extends Error {
  override readonly name = 'NotReady';
  readonly code = 'not_ready';
}

export class Service {
  readonly #root: string;
  readonly #gatewayScript: GatewayScript;
  readonly #env: NodeJS.ProcessEnv;
  readonly #progress: ProgressLine;
  readonly #stop = new AbortController();
  readonly #failed = Promise.withResolvers<Error>();
  readonly #fleet: PoolFleet;
  #gateway: Supervisor | null = null;
  /** As it was started. */
  #loaded: LoadedConfig | null = null;
  /** Resolved when the gateway has the pools that it was told. */
  #announced = Promise.withResolvers<void>();
  /** Variables that no process gets but by its plan. */
  readonly #secrets = new Set(SECRETS);
  #log: LogFile | null = null;
  #serving = false;

  constructor(root: string, env: NodeJS.ProcessEnv, progress: ProgressLine, gatewayScript: GatewayScript) {
    this.#root = root;
    this.#gatewayScript = gatewayScript;
    this.#env = env;
    this.#progress = progress;
    this.#fleet = new PoolFleet({
      supervise: (identity, { script, env: own, section }, onMemory) =>
        this.#supervise(`pool ${identity.poolId}`, {
          ...{ script, host: POOL_HOST, env: own, health: POOL_HEALTH },
          section: (port) => section(identity, port),
          onMemory,
        }),
      journalOf: (poolId) => journalFolder(this.#loaded?.config.server.dataDir ?? '', poolId),
      announce: (pools) => this.#announce(pools),
      say: (line) => this.#say(line),
      onFailed: (error) => this.#failed.resolve(error),
    });
  }

  /** Resolves when a process that served can't be kept alive any longer. */
  get failed(): Promise<Error> {
    return this.#failed.promise;
  }

  get stopping(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Resolves when requests are answered. Throws the error of whatever step failed. */
  async start(loaded: LoadedConfig): Promise<Omit<Ready, 'seconds'>> {
    const { config } = loaded;
    const { host, port, dataDir, tls } = config.server;
    const scheme = tls ? 'https' : 'http';
    const problem = await portProblem(host, port);
    if (problem) throw new ConfigError(problem);
    makeDataFolder(dataDir);
    this.#log = new LogFile(join(dataDir, 'hearth.log'));

    this.#loaded = loaded;
    const plans = await this.#plans(loaded);
    await this.#fleet.start(plans);
    this.#stop.signal.throwIfAborted();
    this.#gateway = this.#supervise('gateway', {
      script: this.#gatewayScript,
      nodeFlags: NODE_FLAGS[this.#gatewayScript],
      host: reachable(host),
      env: {},
      health: { ...GATEWAY_HEALTH, scheme },
      section: (gatewayPort) => gatewaySectionOf(loaded, this.#fleet.entries, gatewayPort),
      onAnnounced: () => this.#announced.resolve(),
    });
    const gateway = await this.#gateway.start();
    const readyz = `${scheme}://${urlHost(reachable(host))}:${gateway.port}/readyz`;
    if (plans.length > 0) await this.#untilReady(readyz, config.pools.some(isForeign));
    this.#progress.end();
    this.#serving = true;
    this.#gateway.failed.then(this.#failed.resolve);

    const credentials = join(dataDir, 'dev-credentials.json');
    return {
      baseUrl: `${scheme}://${urlHost(host)}:${gateway.port}/v1`,
      model: plans[0]?.models[0] ?? '',
      adapter: plans[0]?.adapterName ?? '',
      apiKey: config.server.mode === 'development' && isLoopback(host) ? apiKeyIn(credentials) : null,
      credentials,
      log: this.#log.path,
    };
  }

  /**
   * New pool processes with this configuration and the code as it is now, and no request lost. Never rejects: what fails is told, and what
   * served serves on. What it says of the server and of the gateway takes a restart.
   */
  async reload(read: () => LoadedConfig): Promise<void> {
    if (!this.#serving) return; // it is just reading it
    try {
      const { config, ...rest } = read();
      const { server } = this.#loaded?.config ?? config;
      await this.#fleet.replaceAll(await this.#plans({ ...rest, config: { ...config, server } }));
    } catch (error) {
      this.#say(`The configuration was not taken over: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Drains and ends all processes. Safe at any time, and to repeat. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    await this.#gateway?.stop();
    await this.#fleet.stop();
  }

  /** Ends all at once. */
  kill(): void {
    this.#gateway?.kill();
    this.#fleet.kill();
  }

  #plans(loaded: LoadedConfig): Promise<PoolPlan[]> {
    for (const pool of loaded.config.pools) if (isForeign(pool) && pool.apiKeyEnv) this.#secrets.add(pool.apiKeyEnv);
    return planPools(loaded, { progress: this.#progress, env: this.#env, signal: this.#stop.signal });
  }

  /** One that is just starting learns its pools from its section. */
  async #announce(pools: PoolsMessage['pools']): Promise<void> {
    this.#announced = Promise.withResolvers<void>();
    const message: PoolsMessage = { type: 'pools', pools };
    this.#gateway?.tell(message);
    await Promise.race([this.#announced.promise, sleep(ANNOUNCE_LIMIT_MS, undefined, { ref: false })]);
  }

  #supervise(name: string, { script, nodeFlags = [], env, ...options }: Supervised): Supervisor {
    const own = Object.fromEntries(Object.entries(this.#env).filter(([key]) => !this.#secrets.has(key)));
    return new Supervisor({
      ...options,
      name,
      command: process.execPath,
      args: [...nodeFlags, join(this.#root, script)],
      env: { ...own, ...env },
      stopLimitMs: (options.section(null).drainMs ?? 0) + STOP_MARGIN_MS,
      onProgress: ({ stage, done, total }) => this.#showProgress(stage, done, total),
      onStderr: (line) => this.#log?.append(line),
      onState: (state, detail) => this.#noteState(name, state, detail),
    });
  }

  /**
   * The gateway listens before it has heard of its pool; until then it refuses what the banner invites people to send. A foreign server may
   * come later.
   */
  async #untilReady(url: string, mayBeLate: boolean): Promise<void> {
    const limit = AbortSignal.timeout(READY_LIMIT_MS);
    for (;;) {
      if ((await healthStatus(url, GATEWAY_HEALTH.timeoutMs)) === 200) return;
      this.#stop.signal.throwIfAborted();
      if (limit.aborted && mayBeLate) return this.#say(`Not every model is ready; see ${this.#log?.path}`);
      if (limit.aborted)
        throw new NotReady(
          `the gateway does not reach its pool (no answer 200 from ${url} in ${READY_LIMIT_MS / 1000} s); see ${this.#log?.path}`,
        );
      await sleep(READY_INTERVAL_MS);
    }
  }

  #showProgress(stage: string, done: number, total: number): void {
    if (stage === 'weights') this.#progress.bytes('Uploading weights', done, total);
    else if (stage === 'tuning') this.#progress.share('Measuring kernels', done, total);
    else if (stage === 'shaders') this.#progress.share('Compiling shaders', done, total);
    else this.#progress.update('Warming up');
  }

  #say(line: string): void {
    this.#log?.append(JSON.stringify({ time: new Date().toISOString(), process: 'start', message: line }));
    if (!this.stopping) this.#progress.say(line);
  }

  /** A start is told by its progress; what happens to a running service is worth a line. */
  #noteState(name: string, state: SupervisorState, detail: string): void {
    this.#log?.append(JSON.stringify({ time: new Date().toISOString(), process: name, state, detail }));
    if (!this.#serving || this.stopping) return;
    if (state === 'restarting') this.#progress.say(`The ${name} ended and is started again: ${detail}`);
    if (state === 'ready') this.#progress.say(`The ${name} is ready.`);
    if (state === 'unready') this.#progress.say(`The ${name} is not ready for requests.`);
  }
}

function apiKeyIn(file: string): string | null {
  const { apiKey }: { apiKey?: unknown } = JSON.parse(readFileSync(file, 'utf8'));
  return typeof apiKey === 'string' ? apiKey : null;
}

/** Where something that listens on `host` answers to this machine. */
function reachable(host: string): string {
  return { '0.0.0.0': '127.0.0.1', '::': '::1' }[host] ?? host;
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
