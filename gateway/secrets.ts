// Secrets of this installation: those that the configuration gives, and those that are made at the first start and kept beside the
// database in secrets.json, readable by the owner alone. Losing that file makes every key of the database invalid.
import { chmodSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { RandomBytes } from './clock.ts';
import { ConfigError, type GatewaySection } from './config.ts';
import { drawAdminKey } from './keys/adminKey.ts';
import type { Secrets } from './keys/secrets.ts';

const kept = z.strictObject({
  pepperHex: z.string().optional(),
  namespaceSecretHex: z.string().optional(),
  adminKey: z.string().optional(),
});
type Kept = z.output<typeof kept>;

/** Whole or not at all, and never readable by others. */
export function writePrivately(path: string, value: object): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
}

/** Throws ConfigError when secrets.json is there but can't be read. */
export function openSecrets(section: GatewaySection, random: RandomBytes): Secrets {
  const path = join(section.dataDir, 'secrets.json');
  const before = readKept(path);
  const hex = () => Buffer.from(random(32)).toString('hex');
  const now: Kept = { ...before };
  if (!section.peppers) now.pepperHex ??= hex();
  if (!section.namespaceSecretHex) now.namespaceSecretHex ??= hex();
  if (!section.adminKey) now.adminKey ??= drawAdminKey(random);
  if (JSON.stringify(now) !== JSON.stringify(before)) writePrivately(path, now);
  // A pepper that was generated before one was configured goes on verifying, under version 0.
  const generated = now.pepperHex ? [{ version: 0, secretHex: now.pepperHex }] : [];
  return {
    adminKey: section.adminKey ?? now.adminKey ?? '',
    namespaceSecretHex: section.namespaceSecretHex ?? now.namespaceSecretHex ?? '',
    peppers: [...(section.peppers ?? []), ...generated],
  };
}

function readKept(path: string): Kept {
  if (!existsSync(path)) return {};
  try {
    return kept.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    throw new ConfigError(`${path} can't be read. Restore it from a backup: the stored keys are valid only with it.`);
  }
}
