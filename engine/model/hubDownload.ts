// Fetches one file over HTTPS into a partial file, and goes on where it stopped: after a broken connection, and after a restart. A
// resumed range is only asked for with the entity tag under which it began, so that two versions are never glued together.
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode, ModelSourceError } from './sourceErrors.ts';

/** Attempts in a row that brought not one byte. */
const MAX_FRUITLESS_ATTEMPTS = 5;
const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 15_000;
/** A connection that brings nothing for so long is broken. */
const STALL_LIMIT_MS = 60_000;

export interface HubDownload {
  url: string;
  /** Without it no byte leaves for anybody; sent to the first host only. */
  token?: string | undefined;
  /** Grows while the file comes; `${partial}.tag` keeps the entity tag. */
  partial: string;
  maxBytes: number;
  onBytes: (done: number, total: number | null) => void;
  signal?: AbortSignal | undefined;
  retryBaseMs?: number | undefined;
}

/** Resolves when `partial` is whole. Throws ModelSourceError, or the signal's reason. */
export async function downloadFromHub(options: HubDownload): Promise<void> {
  requireSafe(options.url, 'HF_ENDPOINT');
  let fruitless = 0;
  for (;;) {
    const before = await sizeOf(options.partial);
    let problem: unknown;
    try {
      if (await attempt(options, before)) return;
      problem = new Error('the connection ended early');
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof ModelSourceError && !error.retryable) throw error;
      if (errorCode(error) === 'ENOSPC') throw error;
      problem = error;
    }
    fruitless = (await sizeOf(options.partial)) > before ? 0 : fruitless + 1;
    if (fruitless >= MAX_FRUITLESS_ATTEMPTS)
      throw new ModelSourceError(
        'network',
        `${options.url} could not be fetched: ${causeText(problem)}, ${fruitless} times in a row. Check the network and proxy; what has ` +
          'come is kept, and the next start goes on from there.',
      );
    const delayMs = Math.min(RETRY_MAX_MS, (options.retryBaseMs ?? RETRY_BASE_MS) * 2 ** fruitless);
    await sleep(delayMs, undefined, options.signal ? { signal: options.signal } : {});
  }
}

/** One request. True: whole. False: it ended early. */
async function attempt(options: HubDownload, have: number): Promise<boolean> {
  const { url, partial, token } = options;
  const tagFile = `${partial}.tag`;
  const tag = have > 0 ? await readFile(tagFile, 'utf8').catch(() => '') : '';
  const from = tag ? have : 0;
  const stalled = new AbortController();
  const watchdog = setTimeout(
    () => stalled.abort(new Error(`nothing came for ${STALL_LIMIT_MS / 1000} s`)),
    STALL_LIMIT_MS,
  );
  try {
    const response = await fetch(url, {
      signal: options.signal ? AbortSignal.any([options.signal, stalled.signal]) : stalled.signal,
      headers: {
        'accept-encoding': 'identity',
        ...(token && { authorization: `Bearer ${token}` }),
        ...(from > 0 && { range: `bytes=${from}-`, 'if-range': tag }),
      },
    });
    requireSafe(response.url || url, 'the address it was sent on to');
    if (response.status === 416) {
      await response.body?.cancel();
      if (response.headers.get('content-range') === `bytes */${from}`) return true;
      await writeFile(tagFile, '');
      return false;
    }
    if (!response.ok || !response.body) throw refused(url, response.status, token !== undefined);
    const range =
      response.status === 206 ? /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '') : null;
    if (response.status === 206 && Number(range?.[1]) !== from)
      throw new ModelSourceError('network', `${url} answered with another range than was asked for`);
    const length = response.headers.get('content-length');
    const total = range ? Number(range[2]) : length === null ? null : Number(length);
    if (total !== null && total > options.maxBytes) throw tooLarge(url, total, options.maxBytes);
    const entityTag = response.headers.get('etag') ?? '';
    await writeFile(tagFile, entityTag.startsWith('"') ? entityTag : '');
    let done = range ? from : 0;
    const file = await open(partial, range ? 'r+' : 'w');
    try {
      for await (const chunk of response.body) {
        watchdog.refresh();
        if (done + chunk.length > (total ?? options.maxBytes))
          throw tooLarge(url, done + chunk.length, total ?? options.maxBytes);
        for (let at = 0; at < chunk.length; ) {
          const { bytesWritten } = await file.write(chunk, at, chunk.length - at, done + at);
          at += bytesWritten;
        }
        done += chunk.length;
        options.onBytes(done, total);
      }
    } finally {
      await file.close();
    }
    return total === null || done === total;
  } finally {
    clearTimeout(watchdog);
  }
}

function refused(url: string, status: number, withToken: boolean): ModelSourceError {
  if (status === 404)
    return new ModelSourceError('not_found', `${url} does not exist (404); check owner, repository, path and revision`);
  if (status === 401 || status === 403)
    return new ModelSourceError(
      'no_access',
      `${url} is not open (${status}). ${withToken ? 'The token in HF_TOKEN has no right to it' : 'If it is gated, set HF_TOKEN'}; if it does not exist, the hub says the same.`,
    );
  if (status === 429 || status >= 500) return new ModelSourceError('network', `${url} answered ${status}`);
  return new ModelSourceError('no_access', `${url} answered ${status}; check HF_ENDPOINT and the model's source`);
}

function tooLarge(url: string, bytes: number, maxBytes: number): ModelSourceError {
  return new ModelSourceError('bad_source', `${url} sends ${bytes} bytes, more than the ${maxBytes} that it may have`);
}

/** Weights decide what a model says: plain HTTP is for this machine only. */
function requireSafe(url: string, what: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol === 'https:') return;
  if (parsed?.protocol === 'http:' && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(parsed.hostname)) return;
  throw new ModelSourceError('bad_source', `${what} must be an https address (or http on loopback)`);
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/** fetch hides the reason in `cause`. */
function causeText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error
    ? `${error.message} (${errorCode(error.cause) || error.cause.message})`
    : error.message;
}
