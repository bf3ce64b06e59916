// The Node host's connections to its pools, kept alive between requests: node:http's client in the place of `fetch`, of whose work an
// exchange with a pool uses little and pays for all.
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { LRUCache } from 'lru-cache';
import type { PoolFetch, PoolResponse } from './relay/poolRequest.ts';

/** Per pool, kept open with nothing to do: as many as a burst may want again at once. */
const MAX_IDLE_CONNECTIONS = 256;

/** Addresses of pools that are remembered as node:http wants them. */
const MAX_ORIGINS = 256;

interface Origin {
  send: typeof httpRequest;
  /** What node:http needs to know of it. */
  options: { agent: HttpAgent; hostname: string; port: string | undefined };
}

export class PoolConnections {
  readonly #http = new HttpAgent({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS });
  readonly #https = new HttpsAgent({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS });
  readonly #origins = new LRUCache<string, Origin>({ max: MAX_ORIGINS });

  /** Follows no redirect. Rejects with the connection's error. */
  readonly fetch: PoolFetch = (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const pathAt = url.indexOf('/', url.indexOf('//') + 2);
      const { send, options } = this.#origin(url.slice(0, pathAt));
      const length = body ? { 'content-length': String(body.length) } : {};
      const request = send({ ...options, method, path: url.slice(pathAt), headers: { ...headers, ...length } });
      const abort = () => void request.destroy(new Error('aborted'));
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort, { once: true });
      request.once('response', (incoming) => resolve(responseOf(incoming)));
      request.on('error', reject);
      request.once('close', () => signal?.removeEventListener('abort', abort));
      request.end(body);
    });

  /** Requests that still run are cut off. */
  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  #origin(text: string): Origin {
    let origin = this.#origins.get(text);
    if (!origin) {
      const { protocol, hostname, port } = new URL(text);
      const [send, agent] = protocol === 'https:' ? [httpsRequest, this.#https] : [httpRequest, this.#http];
      // A URL brackets an IPv6 address, a socket doesn't.
      const options = { agent, hostname: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? undefined : port };
      origin = { send, options };
      this.#origins.set(text, origin);
    }
    return origin;
  }
}

function responseOf(incoming: IncomingMessage): PoolResponse {
  const status = incoming.statusCode ?? 0;
  const get = (name: string) => [incoming.headers[name] ?? null].flat()[0] ?? null;
  return { ok: status >= 200 && status < 300, status, headers: { get }, body: incoming };
}
