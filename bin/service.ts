// The two processes of a single machine and the order of their lives:
//
//   start:  port free? ─▶ adapter ─▶ model ─▶ pool warm ─▶ gateway listens      stop:  gateway drains ─▶ pool drains
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isLoopback } from '../gateway/config.ts';
import { POOL_HEALTH, Supervisor, type SupervisorState } from '../pool/supervisor.ts';
import type { Ready } from './banner.ts';
import { ConfigError, type LoadedConfig } from './config.ts';
import { makeDataFolder } from './dataFolder.ts';
import { LogFile } from './logFile.ts';
import { portProblem } from './portCheck.ts';
import { prepareAdapter, prepareModel, tuningFile } from './prepare.ts';
import type { ProgressLine } from './progressLine.ts';
import { gatewaySectionOf, type PoolIdentity, poolSectionOf } from './sections.ts';

/** Past its own drain bound a process gets this long to close its files. */
const STOP_MARGIN_MS = 10_000;
/** The pool is warm by then and the gateway asks it each second: longer means that something is wrong. */
const READY_LIMIT_MS = 30_000;
const READY_INTERVAL_MS = 50;
const GATEWAY_HEALTH = { ...POOL_HEALTH, path: '/healthz' };
/** Secrets of ours stay out of the environment of what we start. */
const SECRETS = ['HEARTH_ADMIN_KEY', 'HEARTH_PEPPER', 'HF_TOKEN'];

/** The gateway on Node, or the Worker in workerd. */
export type GatewayScript = 'gateway/node.ts' | 'bin/edgeGateway.ts';

/** Both processes run, but requests would be refused. */
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
  #pool: Supervisor | null = null;
  #gateway: Supervisor | null = null;
  #log: LogFile | null = null;
  #serving = false;

  constructor(root: string, env: NodeJS.ProcessEnv, progress: ProgressLine, gatewayScript: GatewayScript) {
    this.#root = root;
    this.#gatewayScript = gatewayScript;
    this.#env = env;
    this.#progress = progress;
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
    const { host, port, dataDir } = config.server;
    const problem = await portProblem(host, port);
    if (problem) throw new ConfigError(problem);
    makeDataFolder(dataDir);
    this.#log = new LogFile(join(dataDir, 'hearth.log'));

    const adapter = await prepareAdapter(this.#progress, config.adapter, this.#env);
    const modelPaths: string[] = [];
    for (const model of config.models) {
      const options = { cacheDir: config.modelCache, env: this.#env, signal: this.#stop.signal };
      modelPaths.push((await prepareModel(this.#progress, model, options)).path);
    }
    this.#stop.signal.throwIfAborted();

    const identity: PoolIdentity = { poolId: 'local', keyId: 'start', secretHex: randomBytes(32).toString('hex') };
    const { dawnFlags } = adapter;
    this.#pool = this.#supervise('pool', 'pool/main.ts', '127.0.0.1', adapter.env, POOL_HEALTH, (poolPort) =>
      poolSectionOf(loaded, identity, { modelPaths, dawnFlags, tuningFile: tuningFile(this.#env), port: poolPort }),
    );
    const { port: poolPort } = await this.#pool.start();
    this.#stop.signal.throwIfAborted();
    this.#gateway = this.#supervise(
      'gateway',
      this.#gatewayScript,
      reachable(host),
      {},
      GATEWAY_HEALTH,
      (gatewayPort) => gatewaySectionOf(loaded, identity, { poolPort, port: gatewayPort }),
    );
    const gateway = await this.#gateway.start();
    await this.#untilReady(`http://${urlHost(reachable(host))}:${gateway.port}/readyz`);
    this.#progress.end();
    this.#serving = true;
    for (const supervisor of [this.#pool, this.#gateway]) supervisor.failed.then(this.#failed.resolve);

    const credentials = join(dataDir, 'dev-credentials.json');
    return {
      baseUrl: `http://${urlHost(host)}:${gateway.port}/v1`,
      model: config.models[0]?.id ?? '',
      adapter: adapter.name,
      apiKey: config.server.mode === 'development' && isLoopback(host) ? apiKeyIn(credentials) : null,
      credentials,
      log: this.#log.path,
    };
  }

  /** Drains and ends both processes. Safe at any time, and to repeat. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    await this.#gateway?.stop();
    await this.#pool?.stop();
  }

  /** Ends both at once. */
  kill(): void {
    this.#gateway?.kill();
    this.#pool?.kill();
  }

  #supervise(
    name: string,
    script: string,
    host: string,
    env: Record<string, string>,
    health: typeof POOL_HEALTH,
    section: (port: number | null) => { drainMs?: number | undefined },
  ): Supervisor {
    const own = Object.fromEntries(Object.entries(this.#env).filter(([key]) => !SECRETS.includes(key)));
    return new Supervisor({
      name,
      command: process.execPath,
      args: [join(this.#root, script)],
      env: { ...own, ...env },
      host,
      health,
      section,
      stopLimitMs: (section(null).drainMs ?? 0) + STOP_MARGIN_MS,
      onProgress: ({ stage, done, total }) => this.#showProgress(stage, done, total),
      onStderr: (line) => this.#log?.append(line),
      onState: (state, detail) => this.#noteState(name, state, detail),
    });
  }

  /** The gateway listens before it has heard of its pool; until then it refuses what the banner invites people to send. */
  async #untilReady(url: string): Promise<void> {
    const limit = AbortSignal.timeout(READY_LIMIT_MS);
    const signal = AbortSignal.any([this.#stop.signal, limit]);
    for (;;) {
      const answer = await fetch(url, { signal }).catch(() => null);
      await answer?.body?.cancel();
      if (answer?.ok) return;
      this.#stop.signal.throwIfAborted();
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
