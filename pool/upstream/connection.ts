// The way to a foreign server: HTTP/1.1 with kept connections, no redirects, certificates checked. Everything that comes back is bounded:
// headers, answers, lines of a stream. Aborting closes the connection, which is how these servers learn that nobody waits any more.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { SseLineTooLong, SseParser } from '../wire/sse.ts';

/** Longest JSON answer: a list of the tokens of a long prompt, with their texts. */
const MAX_ANSWER_BYTES = 32 * 2 ** 20;
/** Longest line of a stream: one token with 20 alternatives is a few kilobytes, the ids of a prompt a megabyte. */
const MAX_LINE_CHARS = 8 * 2 ** 20;
/** Between the last event and the end of its answer. */
const END_LIMIT_MS = 1000;
/** Kept open with nothing to do. */
const MAX_IDLE_CONNECTIONS = 256;

/** No answer: nobody listens, the connection broke, or what came is not what a server of this kind says. */
export class UpstreamFailed extends Error {
  override readonly name = 'UpstreamFailed';
  /** Surely nothing was begun. */
  readonly neverSent: boolean;

  constructor(reason: string, neverSent = false) {
    super(reason);
    this.neverSent = neverSent;
  }
}

/** An answer other than 200. */
export class UpstreamRefused extends Error {
  override readonly name = 'UpstreamRefused';
  readonly status: number;
  readonly body: unknown;
  readonly retryAfterMs: number | null;

  constructor(status: number, body: unknown, retryAfterMs: number | null) {
    super(`the upstream answered ${status}`);
    this.status = status;
    this.body = body;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface UpstreamTarget {
  /** With or without a path, without a slash at its end. */
  url: string;
  apiKey: string | null;
}

export interface UpstreamRequest {
  method: 'GET' | 'POST';
  path: string;
  body?: object;
  signal: AbortSignal;
}

export class Connection {
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #agent: HttpAgent;
  readonly #send: typeof httpRequest;

  constructor({ url, apiKey }: UpstreamTarget) {
    this.#base = new URL(url);
    const secure = this.#base.protocol === 'https:';
    const options = { keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS };
    this.#agent = secure ? new HttpsAgent(options) : new HttpAgent(options);
    this.#send = secure ? httpsRequest : httpRequest;
    this.#headers = {
      accept: 'application/json, text/event-stream',
      ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
    };
  }

  close(): void {
    this.#agent.destroy();
  }

  /** A whole JSON answer. Throws UpstreamFailed or UpstreamRefused. */
  async json(request: UpstreamRequest): Promise<unknown> {
    return parsed(await this.text(request));
  }

  async text(request: UpstreamRequest): Promise<string> {
    return readBounded(await this.#ask(request));
  }

  /**
   * The data of a stream's events, in the batches that they came in, up to `[DONE]` or the end. Resolves when the server has answered 200.
   * Throws UpstreamFailed or UpstreamRefused, while it is read as well.
   */
  async stream(request: UpstreamRequest): Promise<AsyncGenerator<string[], void, void>> {
    const answer = await this.#ask(request);
    if (!(answer.headers['content-type'] ?? '').startsWith('text/event-stream')) {
      answer.destroy();
      throw new UpstreamFailed('it does not answer with a stream');
    }
    return events(answer);
  }

  async #ask({ method, path, body, signal }: UpstreamRequest): Promise<IncomingMessage> {
    const bytes = body && Buffer.from(JSON.stringify(body));
    const headers = {
      ...this.#headers,
      ...(bytes && { 'content-type': 'application/json', 'content-length': String(bytes.length) }),
    };
    const { hostname, port, pathname } = this.#base;
    const options = {
      ...{ agent: this.#agent, method, headers },
      hostname: hostname.replace(/^\[|\]$/g, ''),
      port: port || undefined,
      path: pathname.replace(/\/+$/, '') + path,
    };
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      // Once it has answered, the answer is ended. The signal of node:http would make that an error of the socket, which nobody hears, and which
      // would be the end of this process.
      let end = () => void request.destroy(new Error('aborted'));
      const abort = () => end();
      const request = this.#send(options, (incoming) => {
        end = () => void incoming.destroy();
        incoming.on('error', () => {}); // told to who reads
        resolve(incoming);
      });
      request.on('error', (error: NodeJS.ErrnoException) => reject(failureOf(error)));
      request.once('close', () => signal.removeEventListener('abort', abort));
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
      request.end(bytes);
    });
    if (answer.statusCode === 200) return answer;
    const told = await readBounded(answer)
      .then(parsed)
      .catch(() => null);
    throw new UpstreamRefused(answer.statusCode ?? 0, told, retryAfter(answer.headers));
  }
}

function failureOf(error: NodeJS.ErrnoException): UpstreamFailed {
  const code = error.code ?? error.name;
  return new UpstreamFailed(`the connection failed (${code})`, code === 'ECONNREFUSED' || code === 'ENOTFOUND');
}

async function readBounded(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of answer) {
      bytes += piece.length;
      if (bytes > MAX_ANSWER_BYTES) throw new UpstreamFailed(`its answer has more than ${MAX_ANSWER_BYTES} bytes`);
      pieces.push(piece);
    }
  } catch (error) {
    throw error instanceof UpstreamFailed ? error : new UpstreamFailed('the connection broke during the answer');
  }
  return Buffer.concat(pieces).toString('utf8');
}

async function* events(answer: IncomingMessage): AsyncGenerator<string[], void, void> {
  const parser = new SseParser(MAX_LINE_CHARS);
  let whole = false;
  try {
    for await (const bytes of answer.iterator({ destroyOnReturn: false })) {
      const data = parser.push(bytes).map((event) => event.data.trim());
      const done = data.indexOf('[DONE]');
      whole = done >= 0;
      if (data.length > 0) yield whole ? data.slice(0, done) : data;
      if (whole) return;
    }
    whole = true;
  } catch (error) {
    if (error instanceof SseLineTooLong) throw new UpstreamFailed(error.message);
    throw error instanceof UpstreamFailed ? error : new UpstreamFailed('the connection broke during the stream');
  } finally {
    if (whole) finish(answer);
    else answer.destroy();
  }
}

/** Takes the end of an answer, so that its connection serves the next request; one that doesn't end is closed. */
function finish(answer: IncomingMessage): void {
  const late = setTimeout(() => answer.destroy(), END_LIMIT_MS);
  answer.once('close', () => clearTimeout(late));
  answer.resume();
}

/** Throws UpstreamFailed. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UpstreamFailed('what it says is not JSON');
  }
}

function retryAfter(headers: IncomingMessage['headers']): number | null {
  const ms = Number(headers['retry-after-ms'] ?? Number(headers['retry-after'] ?? Number.NaN) * 1000);
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}
