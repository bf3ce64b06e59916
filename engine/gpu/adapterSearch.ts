// The adapter search on the real machine: probes are processes, drivers come from the system's folders, SwiftShader goes into the cache.
import { mkdir, mkdtemp, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { userCache } from '../model/modelCache.ts';
import { type AdapterChoice, chooseAdapter } from './adapterOrder.ts';
import { listAdapters, probeAdapter } from './probeProcess.ts';
import { swiftShaderEnv, unpackSwiftShader } from './swiftShader.ts';
import { systemDrivers } from './systemDrivers.ts';

export type { AdapterChoice } from './adapterOrder.ts';

export interface FindAdapterOptions {
  env?: NodeJS.ProcessEnv;
  /** auto, hardware, lavapipe, swiftshader, or a part of a name. HEARTH_ADAPTER in `env` comes first. */
  wanted?: string;
  onProgress?: (message: string) => void;
}

/** The adapter to use, with the environment for the processes that open it. Throws AdapterSearchError. */
export async function findAdapter(options: FindAdapterOptions = {}): Promise<AdapterChoice> {
  const env = options.env ?? process.env;
  const cache = userCache(env);
  const base = { ...env, ...(await runtimeDir(env, cache)) };
  const say = options.onProgress ?? (() => {});
  const choice = await chooseAdapter(
    {
      platform: `${process.platform}-${process.arch}`,
      list: () => {
        say('looking for adapters');
        return listAdapters(base);
      },
      drivers: () => systemDrivers(env),
      probe: (extra, dawnFlags) => {
        say(`trying ${dawnFlags.join(' ').replace('adapter=', '') || 'the GPU that is preferred'}`);
        return probeAdapter({ ...base, ...extra }, dawnFlags);
      },
      swiftShader: async () => {
        say('unpacking SwiftShader');
        return swiftShaderEnv(await unpackSwiftShader(cache), env);
      },
    },
    env.HEARTH_ADAPTER || options.wanted,
  );
  const runtime = base.XDG_RUNTIME_DIR;
  return { ...choice, env: { ...choice.env, ...(runtime && { XDG_RUNTIME_DIR: runtime }) } };
}

/** Drivers want a private folder for sockets and say so loudly where there is none. */
async function runtimeDir(env: NodeJS.ProcessEnv, cache: string): Promise<Record<string, string>> {
  const given = env.XDG_RUNTIME_DIR;
  if (given && (await stat(given).catch(() => null))?.isDirectory()) return {};
  const folder = join(cache, 'runtime');
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return { XDG_RUNTIME_DIR: folder };
  } catch {
    return { XDG_RUNTIME_DIR: await mkdtemp(join(tmpdir(), 'hearth-')) };
  }
}
