// The Node host's connections to its pools, kept open between requests. Of what `fetch` or node:http's client can do an exchange with a pool
// uses little and pays for all: this is that little, HTTP/1.1 on a socket, no redirects, no cookies, no agent.
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { LRUCache } from 'lru-cache';
import { FIELD_VALUE } from './httpAnswer.ts';
import { invariant } from './invariant.ts';
import { PoolConnection } from './poolConnection.ts';
import type { PoolFetch } from './relay/poolRequest.ts';

/** Per pool, kept open with nothing to do: as many as a burst may want again at once. */
const MAX_IDLE_CONNECTIONS = 256;
/** Addresses of pools whose connections are kept. */
const MAX_ORIGINS = 256;
/** A host that is gone answers no attempt to connect; the system would go on trying for minutes. TLS included. */
const CONNECT_WITHIN_MS = 5000;
/** A silent connection is probed after this, so that one whose pool is gone without a word is found out. */
const PROBE_AFTER_MS = 1000;

const REQUEST_TARGET = /^[\x21-\x7e]+$/;

/** One pool's address, and what stands open to it. */
interface Origin {
  /** As the Host header names it. */
  host: string;
  connect(): Socket;
  /** Event of the socket that it can carry requests. */
  connected: 'connect' | 'secureConnect';
  /** The one used last at the end. */
  idle: PoolConnection[];
  /** Its connections are not kept any more. */
  forgotten: boolean;
}

export class PoolConnections {
  readonly #open = new Set<PoolConnection>();
  readonly #origins = new LRUCache<string, Origin>({
    max: MAX_ORIGINS,
    dispose: (origin) => {
      origin.forgotten = true;
      for (const connection of origin.idle) connection.destroy();
    },
  });

  /** Follows no redirect. Rejects with the connection's error, or NotConnected. */
  readonly fetch: PoolFetch = async (url, { method, headers, body, signal }) => {
    if (signal?.aborted) throw new Error('aborted');
    const pathAt = url.indexOf('/', url.indexOf('//') + 2);
    const origin = this.#origin(url.slice(0, pathAt));
    const path = url.slice(pathAt);
    invariant(REQUEST_TARGET.test(path), 'a path is printable ASCII');
    let head = `${method} ${path} HTTP/1.1\r\nhost: ${origin.host}\r\n`;
    for (const name in headers) {
      const value = headers[name] ?? '';
      invariant(FIELD_VALUE.test(value), 'a header is one line', { name });
      head += `${name}: ${value}\r\n`;
    }
    if (body || method !== 'GET') head += `content-length: ${body?.length ?? 0}\r\n`;
    return this.#connection(origin).exchange(`${head}\r\n`, body, signal);
  };

  /** Requests that still run are cut off. */
  close(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #connection(origin: Origin): PoolConnection {
    for (let kept = origin.idle.pop(); kept; kept = origin.idle.pop()) {
      if (kept.usable) return kept;
      kept.destroy();
    }
    const socket = origin.connect().setNoDelay().setKeepAlive(true, PROBE_AFTER_MS);
    const giveUp = setTimeout(() => opened.destroy(new Error('the pool takes no connection')), CONNECT_WITHIN_MS);
    socket.once(origin.connected, () => {
      clearTimeout(giveUp);
      opened.connected();
    });
    const opened: PoolConnection = new PoolConnection(socket, {
      idle: () => {
        if (origin.forgotten || origin.idle.length >= MAX_IDLE_CONNECTIONS) opened.destroy();
        else origin.idle.push(opened);
      },
      closed: () => {
        clearTimeout(giveUp);
        this.#open.delete(opened);
        const at = origin.idle.indexOf(opened);
        if (at >= 0) origin.idle.splice(at, 1);
      },
    });
    this.#open.add(opened);
    return opened;
  }

  #origin(text: string): Origin {
    let origin = this.#origins.get(text);
    if (!origin) {
      const { protocol, hostname, port, host } = new URL(text);
      // A URL brackets an IPv6 address, a socket doesn't.
      const name = hostname.replace(/^\[|\]$/g, '');
      let session: Buffer | undefined;
      const open = () => connect({ host: name, port: Number(port || 80) });
      const openTls = () =>
        connectTls({
          ...{ host: name, port: Number(port || 443), ALPNProtocols: ['http/1.1'] },
          ...(isIP(name) === 0 && { servername: name }),
          ...(session && { session }),
        }).on('session', (ticket) => {
          session = ticket;
        });
      const ways = {
        'https:': { connect: openTls, connected: 'secureConnect' },
        'http:': { connect: open, connected: 'connect' },
      } as const;
      origin = { host, ...ways[protocol === 'https:' ? protocol : 'http:'], idle: [], forgotten: false };
      this.#origins.set(text, origin);
    }
    return origin;
  }
}
