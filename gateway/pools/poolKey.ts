// The key of an enrolled pool: derived from the installation's secret and the key's id, so that it is shown once, stands in no store, and is
// another one for a pool that is enrolled again.
import { createHmac } from 'node:crypto';
import type { Keyring } from '../keys/keyring.ts';
import type { Enrolment } from './port.ts';

/** 32 bytes. */
export function poolKey({ poolSecret }: Keyring, { id, keyId }: Pick<Enrolment, 'id' | 'keyId'>): Buffer {
  return createHmac('sha256', poolSecret)
    .update(JSON.stringify([id, keyId]))
    .digest();
}
