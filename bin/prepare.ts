// What start, test and doctor need before anything computes: an adapter and a model's file. Says what it does while it lasts.
import { join } from 'node:path';
import { type AdapterChoice, findAdapter } from '../engine/gpu/adapterSearch.ts';
import { userCache } from '../engine/model/modelCache.ts';
import { type ResolvedModel, resolveModel } from '../engine/model/source.ts';
import type { ProgressLine } from './progressLine.ts';

/** Throws AdapterSearchError. */
export async function prepareAdapter(
  progress: ProgressLine,
  wanted: string,
  env: NodeJS.ProcessEnv,
): Promise<AdapterChoice> {
  const choice = await findAdapter({ wanted, env, onProgress: (what) => progress.update('Finding an adapter:', what) });
  progress.say(`Adapter: ${choice.name}`);
  for (const { name, why } of choice.rejected) progress.say(`  not ${name}: ${why}`);
  return choice;
}

/** What kernels took on this user's adapters. */
export const tuningFile = (env: NodeJS.ProcessEnv): string => join(userCache(env), 'tuning.json');

export interface WantedModel {
  id: string;
  source: string;
  sha256?: string | undefined;
  bytes?: number | undefined;
}

/** Throws ModelSourceError, or the signal's reason. */
export async function prepareModel(
  progress: ProgressLine,
  { id, source, sha256, bytes }: WantedModel,
  options: { cacheDir: string | undefined; env: NodeJS.ProcessEnv; signal?: AbortSignal },
): Promise<ResolvedModel> {
  const labels = {
    wait: `Waiting for another process that fetches ${id}`,
    download: `Fetching ${id}`,
    unpack: `Unpacking ${id}`,
    verify: `Checking ${id}`,
  };
  const model = await resolveModel({
    source,
    sha256,
    bytes,
    ...options,
    onProgress: ({ stage, doneBytes, totalBytes }) =>
      stage === 'wait' ? progress.update(labels.wait) : progress.bytes(labels[stage], doneBytes, totalBytes),
  });
  progress.say(`Model: ${id} (${model.path})`);
  return model;
}
