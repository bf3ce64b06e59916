// The pool's socket: opens it with an error that says what to do, and closes it without cutting off answers that are on their way. With
// certificate files it speaks TLS, and takes them up again when they are renewed.
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import type { ListenSection } from './config.ts';
import { errorText, type Log } from './log.ts';
import { secureOptions, watchCertificate } from './wire/certificate.ts';

/** Longer than a gateway keeps an idle connection, so that it never writes into one that is being closed. */
const KEEP_ALIVE_MS = 75_000;

/** The address can't be listened on. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface Listening {
  port: number;
  /** Refuses new connections, lets answers finish for at most `limitMs`, then cuts what is left. */
  close(limitMs: number): Promise<void>;
}

/** Throws ListenError, or CertificateError for files that can't be used. */
export async function listen(app: Hono, { host, port, tls }: ListenSection, log: Log): Promise<Listening> {
  const answer = getRequestListener(app.fetch, { hostname: host });
  const options = { keepAliveTimeout: KEEP_ALIVE_MS };
  const server = tls ? createTlsServer({ ...options, ...secureOptions(tls) }, answer) : createServer(options, answer);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
    server.listen(port, host, resolve);
  });
  const closing = new AbortController();
  if (tls && server instanceof TlsServer)
    void watchCertificate(server, tls, {
      sleep: (ms, signal) => sleep(ms, undefined, { signal, ref: false }).catch(() => {}),
      onRenewed: () => log('info', 'certificate_renewed'),
      onRefused: (error) => log('error', 'certificate_refused', { error: errorText(error) }),
      signal: closing.signal,
    });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    close: async (limitMs) => {
      closing.abort();
      await closeServer(server, limitMs);
    },
  };
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): ListenError {
  const code = error.code ?? 'listen_failed';
  return code === 'EADDRINUSE'
    ? new ListenError('port_in_use', `Port ${port} of ${host} is in use. Stop what uses it, or configure another port.`)
    : new ListenError(code, `Can't listen on ${host}:${port} (${code}). Check the configured host and port.`);
}

async function closeServer(server: Server, limitMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const force = setTimeout(() => server.closeAllConnections(), limitMs);
    server.close(() => {
      clearTimeout(force);
      resolve();
    });
    server.closeIdleConnections();
  });
}
