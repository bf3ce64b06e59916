// Records as files: ROOT/<shard>/<id>.kv. Written under another name and renamed, so that a name never stands for half a record of
// ours; not flushed, since what a power loss tears does not open. Every function throws what the file system says; callers make misses of it.
// Whoever may write into the folder may delete from it, but neither read nor forge a block, nor lead us out of it: names are
// made from ids alone, links are not followed, and only plain files of the expected size are read.
import { randomBytes } from 'node:crypto';
import { constants, type Dirent } from 'node:fs';
import { lstat, lutimes, mkdir, open, opendir, rename, stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { shardOf } from './diskIndex.ts';

const RECORD = /^[0-9a-f]{32}\.kv$/;
const TEMPORARY = /^\.[0-9a-f]{16}\.tmp$/;
/** A temporary file older than this was left by a process that died. */
const STALE_MS = 60_000;
/** Names read from one shard: a folder that others have filled must not fill our memory. */
export const MAX_NAMES = 16_384;

export interface FileFacts {
  bytes: number;
  usedMs: number;
}

export class RecordFolder {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  /** Makes the folder, readable by its owner alone. Its parent exists. */
  async make(): Promise<void> {
    await makeFolder(this.root);
    if (!(await stat(this.root)).isDirectory()) throw failure('ENOTDIR');
  }

  async write(id: string, pieces: readonly Buffer[]): Promise<void> {
    const folder = this.#shardPath(shardOf(id));
    const temporary = join(folder, `.${randomBytes(8).toString('hex')}.tmp`);
    const exclusive = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    await this.#needShard(folder);
    const handle = await open(temporary, exclusive, 0o600);
    try {
      let written = 0;
      for (const piece of pieces) written += piece.byteLength;
      const { bytesWritten } = await handle.writev([...pieces]);
      if (bytesWritten !== written) throw failure('ENOSPC');
      await handle.close();
      await rename(temporary, this.#path(id));
    } catch (error) {
      await handle.close().catch(() => {});
      await unlink(temporary).catch(() => {});
      throw error;
    }
  }

  /** The file, or null where it isn't a plain file of `bytes` bytes. */
  async read(id: string, bytes: number): Promise<Buffer | null> {
    // Opening a pipe without O_NONBLOCK would wait for its writer.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await open(this.#path(id), flags);
    try {
      const facts = await handle.stat();
      if (!facts.isFile() || facts.size !== bytes) return null;
      const buffer = Buffer.allocUnsafeSlow(bytes);
      const { bytesRead } = await handle.read(buffer, 0, bytes, 0);
      return bytesRead === bytes ? buffer : null;
    } finally {
      await handle.close();
    }
  }

  async facts(id: string): Promise<FileFacts> {
    const { size, mtimeMs } = await lstat(this.#path(id));
    return { bytes: size, usedMs: mtimeMs };
  }

  /** The file's time tells other processes, and later ones, when it was last used. */
  async touch(id: string, nowMs: number): Promise<void> {
    await lutimes(this.#path(id), nowMs / 1000, nowMs / 1000);
  }

  async remove(id: string): Promise<void> {
    await unlink(this.#path(id));
  }

  /** When names were last added to or taken from the shard; null where it isn't a folder. */
  async changedMs(shard: number): Promise<number | null> {
    try {
      const facts = await lstat(this.#shardPath(shard));
      return facts.isDirectory() ? facts.mtimeMs : null;
    } catch {
      return null;
    }
  }

  /** Ids of the shard's records, of plain files alone. Removes what dead writers left. */
  async list(shard: number, nowMs: number): Promise<Set<string>> {
    const ids = new Set<string>();
    const folder = await opendir(this.#shardPath(shard), { bufferSize: 256 });
    for await (const entry of folder) {
      if (ids.size >= MAX_NAMES) break;
      if (isRecordOf(entry, shard)) ids.add(entry.name.slice(0, 32));
      else if (TEMPORARY.test(entry.name)) await this.#removeStale(join(this.#shardPath(shard), entry.name), nowMs);
    }
    return ids;
  }

  /** Bytes that this user may still write to the file system. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.root);
    return bavail * bsize;
  }

  /** Our folder may have been deleted under us; a link in a shard's place would lead out of it. */
  async #needShard(folder: string): Promise<void> {
    const facts = await lstat(folder).catch(() => null);
    if (facts && !facts.isDirectory()) throw failure('ENOTDIR');
    if (facts) return;
    await makeFolder(this.root);
    await makeFolder(folder);
  }

  async #removeStale(path: string, nowMs: number): Promise<void> {
    try {
      const { mtimeMs } = await lstat(path);
      if (nowMs - mtimeMs > STALE_MS) await unlink(path);
    } catch {
      // Its writer finished or another process removed it.
    }
  }

  #shardPath(shard: number): string {
    return join(this.root, shard.toString(16).padStart(2, '0'));
  }

  #path(id: string): string {
    return join(this.#shardPath(shardOf(id)), `${id}.kv`);
  }
}

function isRecordOf(entry: Dirent, shard: number): boolean {
  return entry.isFile() && RECORD.test(entry.name) && shardOf(entry.name) === shard;
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((error) => {
    if (error.code !== 'EEXIST') throw error;
  });
}
