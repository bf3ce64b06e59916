// How each pool of this machine is to be run: its adapter found, its models fetched, its section ready but for name and port.
import type { AdapterChoice } from '../engine/gpu/adapterSearch.ts';
import type { LoadedConfig } from './config.ts';
import { prepareAdapter, prepareModel, tuningFile } from './prepare.ts';
import type { ProgressLine } from './progressLine.ts';
import { modelsOf, type PoolIdentity, type PoolSectionInput, poolSectionOf } from './sections.ts';

export interface PoolPlan {
  id: string;
  /** Names of what it serves. */
  models: readonly string[];
  section: (identity: PoolIdentity, port: number | null) => PoolSectionInput;
  adapterName: string;
  /** The driver's part of the environment. */
  env: Readonly<Record<string, string>>;
  /** Resident memory past which another takes its place; null: there is no bound. */
  memoryBytes: number | null;
}

/** Throws AdapterSearchError, ModelSourceError, or the signal's reason. */
export async function planPools(
  loaded: LoadedConfig,
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
  for (const { adapter } of config.pools) choices.push(await adapterOf(adapter ?? config.adapter));
  for (const model of config.models) {
    const { path } = await prepareModel(progress, model, { cacheDir: config.modelCache, env, signal });
    modelPaths.set(model.id, path);
  }
  signal.throwIfAborted();
  return config.pools.map((own, i) => {
    const { name: adapterName, env: driver, dawnFlags } = choices[i]!;
    const options = { modelPaths, dawnFlags, tuningFile: tuningFile(env) };
    return {
      ...{ id: own.id, adapterName, env: driver, memoryBytes: own.memoryBytes ?? config.pool.memoryBytes ?? null },
      models: modelsOf(config, own).map(({ id }) => id),
      section: (identity, port) => poolSectionOf(loaded, own, identity, { ...options, port }),
    };
  });
}
