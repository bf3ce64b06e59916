// An installation's secrets as they stand in configurations and files, in hex, and the keyring that is made of them.
import { createKeyring, type Keyring } from './keyring.ts';

export interface Secrets {
  adminKey: string;
  namespaceSecretHex: string;
  peppers: readonly { version: number; secretHex: string }[];
}

export function keyringOf({ adminKey, namespaceSecretHex, peppers }: Secrets): Keyring {
  const bytes = (hex: string) => Buffer.from(hex, 'hex');
  return createKeyring({
    adminKey,
    namespaceSecret: bytes(namespaceSecretHex),
    peppers: peppers.map(({ version, secretHex }) => ({ version, secret: bytes(secretHex) })),
  });
}
