// An installation's secrets as they stand in configurations and files, in hex, and the keyring that is made of them.
import { createSecretKey } from 'node:crypto';
import { createKeyring, type Keyring } from './keyring.ts';

export interface Secrets {
  adminKey: string;
  namespaceSecretHex: string;
  peppers: readonly { version: number; secretHex: string }[];
}

export function keyringOf({ adminKey, namespaceSecretHex, peppers }: Secrets, presentedKeys?: number): Keyring {
  const secretKey = (hex: string) => createSecretKey(Buffer.from(hex, 'hex'));
  const peppered = peppers.map(({ version, secretHex }) => ({ version, secret: secretKey(secretHex) }));
  return createKeyring({ adminKey, namespaceSecret: secretKey(namespaceSecretHex), peppers: peppered }, presentedKeys);
}
