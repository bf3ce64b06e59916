// The life of a pool process whose engine is a foreign server: section in, journal open, the server looked for, serving. That the server is
// not there keeps nobody from starting: its models are cold until it is. Only what the process itself lacks ends it.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { PoolMetrics } from '../metrics.ts';
import { type ProcessIo, runProcess } from '../processProtocol.ts';
import { identityOf, openJournal, serve } from '../serving.ts';
import { type UpstreamSection, upstreamSection } from './config.ts';
import { Connection } from './connection.ts';
import { UpstreamLife } from './life.ts';
import { MAKES } from './makes/makes.ts';
import { UpstreamPool } from './pool.ts';
import { countsByRoute, Questions } from './questions.ts';
import { UpstreamRequests } from './requests.ts';
import { createUpstreamApp } from './server.ts';

/** A start waits so long for the server to be warm, as others wait for their engines; then it serves what is there. */
const START_WAIT_MS = 15_000;
const START_LOOK_MS = 100;

/** The variable that should hold the server's key is not set. */
export class ApiKeyMissing extends Error {
  override readonly name = 'ApiKeyMissing';
  readonly code = 'api_key_missing';

  constructor(variable: string) {
    super(`the variable ${variable}, which is to hold the API key of the server, is not set`);
  }
}

/** Nobody's: what is cached under it is never found. */
const drawSalt = (): string => randomBytes(32).toString('base64url');

/** Runs until the end; resolves with the exit code. */
export function runUpstreamProcess(io: ProcessIo, env: NodeJS.ProcessEnv): Promise<number> {
  return runProcess(io, upstreamSection, async (section, log, stop) => {
    const ended = new AbortController();
    const { pool, life, connection } = assemble(section, apiKeyOf(section, env), log);
    const watching = [life.run(ended.signal), readFigures(pool, section.figuresMs, ended.signal)];
    try {
      await Promise.race([stop, warmOrLate(life, io)]);
      const { journal, requests } = pool.parts;
      const served = {
        ...{ app: createUpstreamApp(pool), journal, requests },
        status: () => pool.status(),
        metricsText: () => pool.metricsText(),
        drain: () => pool.drain(),
        tick: () => {},
        stopped: () => life.stopped(),
        down: new Promise<never>(() => {}), // that the server is gone is no end
        adapter: pool.parts.settings.make.title,
      };
      return await serve({ say: io.say, log }, section, served, stop);
    } finally {
      ended.abort();
      connection.close(); // ends what is asked just now
      await Promise.all(watching);
      pool.parts.journal.close();
    }
  });
}

/** Throws ApiKeyMissing. */
export function apiKeyOf({ apiKeyEnv }: Pick<UpstreamSection, 'apiKeyEnv'>, env: NodeJS.ProcessEnv): string | null {
  if (apiKeyEnv === undefined) return null;
  const key = env[apiKeyEnv];
  if (!key) throw new ApiKeyMissing(apiKeyEnv);
  return key;
}

function assemble(section: UpstreamSection, apiKey: string | null, log: Log) {
  const make = MAKES[section.make];
  const connection = new Connection({ url: section.url, apiKey });
  const questions = new Questions(make, connection, drawSalt);
  const journal = openJournal(section.journal, log);
  const metrics = new PoolMetrics();
  const requests: UpstreamRequests = new UpstreamRequests({
    ...{ make, connection, journal, metrics, log, now: Date.now, poolId: section.poolId },
    ...{ maxReceipts: section.journal.maxReceipts, maxRequests: section.maxRequests },
    countPrompt: async (model, { kind, request }, signal) =>
      make.tellsPrompt || !countsByRoute(make, kind) ? null : sum(await questions.count(model, request, signal)),
    countLate: async (model, { request }) => sum(await questions.count(model, request)),
    onProof: (model) => life.proved(model),
    onFailure: (model) => life.doubted(model),
  });
  const life: UpstreamLife = new UpstreamLife({
    models: section.models.map(({ id, name = id, contextLength = null }) => ({ id, name, contextLength })),
    ...{ seats: section.wakeWaiting, waitMs: section.wakeWaitMs, probeMs: section.probeMs },
    listed: () => questions.models(),
    token: (name) => questions.token(name),
    running: (model) => requests.ofModel(model),
    ...{ now: Date.now, log },
  });
  const pool = new UpstreamPool({
    identity: identityOf(section, Date.now()),
    settings: { make, sharedCache: section.sharedCache, priority: section.priority },
    template: {
      tokensPerMessage: section.templateTokensPerMessage,
      tokensPerPrompt: section.templateTokensPerPrompt,
    },
    ...{
      life,
      requests,
      questions,
      journal,
      metrics,
      log,
      drawSalt,
      now: Date.now,
      maxBodyBytes: section.maxBodyBytes,
    },
  });
  return { pool, life, connection };
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, one) => total + one, 0);
}

async function warmOrLate(life: UpstreamLife, { say }: ProcessIo): Promise<void> {
  for (let waited = 0; waited < START_WAIT_MS && life.state !== 'warm'; waited += START_LOOK_MS) {
    say({ type: 'progress', stage: 'upstream', done: waited, total: START_WAIT_MS });
    await sleep(START_LOOK_MS);
  }
}

async function readFigures(pool: UpstreamPool, everyMs: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    if (pool.parts.life.state === 'warm') await pool.refreshFigures();
    await sleep(everyMs, undefined, { signal }).catch(() => {});
  }
}
