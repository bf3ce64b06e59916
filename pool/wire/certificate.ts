// The certificate that a gateway or a pool listens with: PEM files that may be renewed while it runs. They are checked before they are taken;
// files that can't be used are told, and those that were go on.
import { readFileSync, statSync } from 'node:fs';
import type { Server } from 'node:https';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { CertificateFiles } from './certificateFiles.ts';

/** Certificate files are looked at this often. */
const RENEWAL_INTERVAL_MS = 60_000;

/** The files can't be read, or don't belong together. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError';
  readonly code = 'invalid_certificate';
}

/** What a TLS server needs. Throws CertificateError, with the remedy. */
export function secureOptions({ certFile, keyFile }: CertificateFiles): SecureContextOptions {
  try {
    const files = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
    createSecureContext(files);
    return { ...files, minVersion: 'TLSv1.2' };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new CertificateError(
      `tls: ${certFile} and ${keyFile} can't be used (${code}). Give a certificate with its chain and the key that belongs to it, both PEM.`,
    );
  }
}

/** Takes renewed files into use for new connections, until the signal aborts. `sleep` ends early with the signal, and never rejects. */
export async function watchCertificate(
  server: Pick<Server, 'setSecureContext'>,
  files: CertificateFiles,
  { sleep, onRenewed, onRefused, signal }: CertificateWatch,
): Promise<void> {
  for (let seen = changedMs(files); !signal.aborted; ) {
    await sleep(RENEWAL_INTERVAL_MS, signal);
    const now = changedMs(files);
    if (now === seen || signal.aborted) continue;
    try {
      server.setSecureContext(secureOptions(files));
      seen = now;
      onRenewed();
    } catch (error) {
      onRefused(error);
    }
  }
}

export interface CertificateWatch {
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  onRenewed: () => void;
  onRefused: (error: unknown) => void;
  signal: AbortSignal;
}

function changedMs({ certFile, keyFile }: CertificateFiles): string {
  return [certFile, keyFile].map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0).join();
}
