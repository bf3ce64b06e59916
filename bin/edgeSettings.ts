// What wrangler.toml says, for what runs the same Worker on this machine.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface WorkerSettings {
  compatibilityDate: string;
  compatibilityFlags: string[];
}

export function workerSettings(root: string): WorkerSettings {
  const text = readFileSync(join(root, 'wrangler.toml'), 'utf8');
  const [, date = ''] = /^compatibility_date = "([\d-]+)"$/m.exec(text) ?? [];
  const [, flags = ''] = /^compatibility_flags = \[(.*)\]$/m.exec(text) ?? [];
  return { compatibilityDate: date, compatibilityFlags: [...flags.matchAll(/"(\w+)"/g)].map(([, flag = '']) => flag) };
}
