// Reads the configuration: the file, then what the environment overrides, checked as one. Whatever is wrong is refused with the path
// of the key and what to write instead; a key that doesn't exist is wrong, too, since it is a typing mistake of one that does.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { z } from 'zod';
import type { CertificateFiles } from '../pool/wire/certificateFiles.ts';
import { ENV_OVERRIDES, type HearthConfig, hearthConfig } from './configSchema.ts';

const FILE = 'hearth.config.json';

/** The configuration can't be used. One line for each problem. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'invalid_config';
}

export interface LoadedConfig {
  config: HearthConfig;
  /** The file that was read; null where there is none and the defaults hold. */
  file: string | null;
  adminKey: string | null;
  pepperHex: string | null;
}

/** `root`: the folder of the project, against which relative paths count. Throws ConfigError. */
export function loadConfig(root: string, env: NodeJS.ProcessEnv): LoadedConfig {
  const path = resolve(root, env.HEARTH_CONFIG || FILE);
  const written = readConfigFile(path, Boolean(env.HEARTH_CONFIG));
  const config = parseConfig(written ?? {}, env, path);
  const { kvDiskFolder } = config.pool;
  const { tls } = config.server;
  const { enrolled } = config;
  return {
    config: {
      ...config,
      server: {
        ...config.server,
        dataDir: resolve(root, config.server.dataDir),
        ...(tls && { tls: resolved(root, tls) }),
      },
      ...(enrolled && {
        enrolled: {
          ...enrolled,
          keyFile: resolve(root, enrolled.keyFile),
          ...(enrolled.tls && { tls: resolved(root, enrolled.tls) }),
        },
      }),
      pool: { ...config.pool, ...(kvDiskFolder !== undefined && { kvDiskFolder: resolve(root, kvDiskFolder) }) },
    },
    file: written === null ? null : path,
    adminKey: env.HEARTH_ADMIN_KEY || null,
    pepperHex: env.HEARTH_PEPPER || null,
  };
}

function resolved(root: string, { certFile, keyFile }: CertificateFiles): CertificateFiles {
  return { certFile: resolve(root, certFile), keyFile: resolve(root, keyFile) };
}

/** Pure part of `loadConfig`: a parsed file and an environment. Throws ConfigError. */
export function parseConfig(written: unknown, env: NodeJS.ProcessEnv, file = FILE): HearthConfig {
  const origin = new Map<string, string>();
  const merged = structuredClone(written);
  if (isRecord(merged))
    for (const { name, path, integer } of ENV_OVERRIDES) {
      const text = env[name];
      if (text === undefined || text === '') continue;
      origin.set(path.join('.'), name);
      setAt(merged, path, integer && /^\d{1,9}$/.test(text) ? Number(text) : text);
    }
  const parsed = hearthConfig.safeParse(merged);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) => {
    const at = issue.path.map(String).join('.');
    return `  ${origin.get(at) ?? (at || 'the file')}: ${problemText(issue)}`;
  });
  throw new ConfigError(
    `The configuration (${file}) can't be used:\n${lines.join('\n')}\nAll keys: docs/configuration.md`,
  );
}

function readConfigFile(path: string, required: boolean): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (missing && !required) return null;
    throw new ConfigError(`${path} can't be read: ${error instanceof Error ? error.message : error}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ConfigError(`${path} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

function problemText(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'unrecognized_keys') return issue.message;
  const known = keysAt(issue.path);
  return issue.keys
    .map((key) => {
      const near = known.find((each) => editDistance(each.toLowerCase(), key.toLowerCase()) <= 2);
      return `there is no key ${JSON.stringify(key)}; ${near ? `did you mean ${JSON.stringify(near)}?` : `there are: ${known.join(', ')}`}`;
    })
    .join('; ');
}

/** Keys that the schema has at a path; of pools, those of all kinds. */
function keysAt(path: readonly PropertyKey[]): string[] {
  const [section] = path;
  const { shape } = hearthConfig;
  if (section === undefined) return Object.keys(shape);
  if (section === 'models') return Object.keys(shape.models.unwrap().element.shape);
  if (section === 'pools')
    return [...new Set(shape.pools.unwrap().element.options.flatMap((kind) => Object.keys(kind.shape)))];
  if (section === 'server' || section === 'gateway' || section === 'pool' || section === 'enrolled')
    return Object.keys(shape[section].unwrap().shape);
  return [];
}

/** Levenshtein; key names are short. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}

function setAt(target: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [first = '', ...rest] = path;
  if (rest.length === 0) target[first] = value;
  else {
    const inner = target[first] ?? {};
    if (!isRecord(inner)) return; // wrong in the file: the schema says so
    target[first] = inner;
    setAt(inner, rest, value);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
