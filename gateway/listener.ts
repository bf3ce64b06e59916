// The Node host's front: node:http, or TLS from certificate files that may be renewed while it runs. Whoever sends slowly or nothing is
// cut off: headers, whole requests and idle connections each have their time.
import { createServer, Server } from 'node:http';
import { createServer as createTlsServer, Server as TlsServer } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import { createAdaptorServer } from '@hono/node-server';
import { CertificateError, secureOptions, watchCertificate as watchFiles } from '../pool/wire/certificate.ts';
import type { CertificateFiles } from '../pool/wire/certificateFiles.ts';
import type { Clock } from './clock.ts';
import { ConfigError, type GatewaySection } from './config.ts';
import { invariant } from './invariant.ts';
import { errorFields, type Log } from './log.ts';

/** For requests without a Host header, which HTTP/1.0 allows and load balancers' checks send. No route looks at it. */
const NAMELESS_HOST = 'localhost';
/** Longer than load balancers keep theirs: who closes first must not be the one that hears the next request. */
const IDLE_TIMEOUT_MS = 75_000;
/** Slow senders are looked for this often. */
const CHECK_INTERVAL_MS = 1000;
/** All headers together; a key, a trace and what proxies add. */
const MAX_HEADER_BYTES = 32 * 1024;

type Fetch = (request: Request) => Response | Promise<Response>;
export type Listener = Server | TlsServer;

/** Throws ConfigError when the certificate files can't be used. */
export function createListener(fetch: Fetch, { limits, tls }: GatewaySection): Listener {
  const { headersTimeoutMs, bodyTimeoutMs, requestTimeoutMs, holdMarginMs } = limits;
  const serverOptions = {
    headersTimeout: Math.min(headersTimeoutMs, bodyTimeoutMs),
    requestTimeout: bodyTimeoutMs,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const server = tls
    ? createAdaptorServer({
        ...{ fetch, createServer: createTlsServer, hostname: NAMELESS_HOST },
        serverOptions: { ...serverOptions, ...certificateOf(tls) },
      })
    : createAdaptorServer({ ...{ fetch, createServer, serverOptions, hostname: NAMELESS_HOST } });
  invariant(server instanceof Server || server instanceof TlsServer, 'the gateway listens with HTTP/1.1');
  // By then every request is over: who takes nothing for so long (Node cuts off after once or twice that) only keeps its place, and
  // its answer in memory.
  server.setTimeout(requestTimeoutMs + holdMarginMs);
  return server;
}

/** The port that it listens on. Throws ConfigError. */
export function listen(server: Listener, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? `Port ${port} on ${host} is in use. Stop what listens there, or set PORT to another one.`
          : `Can't listen on ${host}:${port} (${error.code ?? error.name}).`;
      reject(new ConfigError(why));
    };
    server.once('error', refuse);
    server.listen(port, host, () => {
      server.off('error', refuse);
      const address = server.address();
      invariant(typeof address === 'object' && address !== null, 'a listening server has an address');
      resolve(address.port);
    });
  });
}

/** Takes renewed certificate files into use for new connections. Files that can't be used are told, and the old ones go on. */
export async function watchCertificate(
  server: Listener,
  { tls }: GatewaySection,
  { clock, log, signal }: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<void> {
  if (!tls || !(server instanceof TlsServer)) return;
  await watchFiles(server, tls, {
    sleep: (ms) => clock.sleep(ms, signal),
    onRenewed: () => log.info('certificate_renewed'),
    onRefused: (error) => log.error('certificate_refused', errorFields(error)),
    signal,
  });
}

function certificateOf(files: CertificateFiles): SecureContextOptions {
  try {
    return secureOptions(files);
  } catch (error) {
    throw error instanceof CertificateError ? new ConfigError(error.message) : error;
  }
}
