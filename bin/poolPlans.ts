// How each pool of this machine is to be run: its adapter found and its models fetched, or its server told where it is; its section ready but
// for name and port.
import type { AdapterChoice } from '../engine/gpu/adapterSearch.ts';
import { MAKES } from '../pool/upstream/makes/makes.ts';
import { apiKeyOf } from '../pool/upstream/process.ts';
import type { LoadedConfig } from './config.ts';
import { type ForeignPool, isForeign, type OwnPool } from './configSchema.ts';
import { prepareAdapter, prepareModel, tuningFile } from './prepare.ts';
import type { ProgressLine } from './progressLine.ts';
import {
  modelsOf,
  type PoolIdentity,
  type PoolSectionInput,
  poolSectionOf,
  type UpstreamSectionInput,
  upstreamSectionOf,
} from './sections.ts';

export interface PoolPlan {
  id: string;
  script: 'pool/main.ts' | 'pool/upstream/main.ts';
  /** Names of what it serves. */
  models: readonly string[];
  section: (identity: PoolIdentity, port: number | null) => PoolSectionInput | UpstreamSectionInput;
  /** What computes. */
  adapterName: string;
  /** What its process needs of the environment: the driver's part, or the key of its server. */
  env: Readonly<Record<string, string>>;
  /** Resident memory past which another takes its place; null: there is no bound. */
  memoryBytes: number | null;
}

/** Throws AdapterSearchError, ModelSourceError, ApiKeyMissing, or the signal's reason. */
export async function planPools(
  loaded: LoadedConfig,
  options: { progress: ProgressLine; env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<PoolPlan[]> {
  const { pools } = loaded.config;
  const own = await planOwn(
    loaded,
    pools.filter((pool): pool is OwnPool => !isForeign(pool)),
    options,
  );
  const foreign = pools.filter(isForeign).map((pool) => planForeign(loaded, pool, options.env));
  const plans = new Map([...own, ...foreign].map((plan) => [plan.id, plan]));
  return pools.flatMap(({ id }) => plans.get(id) ?? []);
}

function planForeign(loaded: LoadedConfig, foreign: ForeignPool, env: NodeJS.ProcessEnv): PoolPlan {
  const { id, make, url, apiKeyEnv, models, memoryBytes } = foreign;
  const key = apiKeyOf(foreign, env);
  return {
    ...{ id, script: 'pool/upstream/main.ts', models: models.map((model) => model.id) },
    section: (identity, port) => upstreamSectionOf(loaded, foreign, identity, port),
    adapterName: `${MAKES[make].title} at ${new URL(url).host}`,
    env: apiKeyEnv !== undefined && key !== null ? { [apiKeyEnv]: key } : {},
    memoryBytes: memoryBytes ?? loaded.config.pool.memoryBytes ?? null,
  };
}

async function planOwn(
  loaded: LoadedConfig,
  pools: readonly OwnPool[],
  { progress, env, signal }: { progress: ProgressLine; env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<PoolPlan[]> {
  const { config } = loaded;
  const adapters = new Map<string, AdapterChoice>();
  const adapterOf = async (name: string): Promise<AdapterChoice> => {
    const choice = adapters.get(name) ?? (await prepareAdapter(progress, name, env));
    adapters.set(name, choice);
    return choice;
  };
  const modelPaths = new Map<string, string>();
  const choices: AdapterChoice[] = [];
  for (const { adapter } of pools) choices.push(await adapterOf(adapter ?? config.adapter));
  const served = config.models.filter((model) => pools.some((own) => modelsOf(config, own).includes(model)));
  for (const model of served) {
    const { path } = await prepareModel(progress, model, { cacheDir: config.modelCache, env, signal });
    modelPaths.set(model.id, path);
  }
  signal.throwIfAborted();
  return pools.map((own, i) => {
    const { name: adapterName, env: driver, dawnFlags } = choices[i]!;
    const options = { modelPaths, dawnFlags, tuningFile: tuningFile(env) };
    return {
      ...{
        id: own.id,
        script: 'pool/main.ts',
        adapterName,
        env: driver,
        memoryBytes: own.memoryBytes ?? config.pool.memoryBytes ?? null,
      },
      models: modelsOf(config, own).map(({ id }) => id),
      section: (identity, port) => poolSectionOf(loaded, own, identity, { ...options, port }),
    };
  });
}
