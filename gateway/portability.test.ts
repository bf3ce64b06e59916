// The app must run where there is no Node: everything that app.ts reaches, types aside, imports the web's APIs and node:crypto alone.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const ALLOWED = new Set(['hono', 'hono/route', 'lru-cache', 'node:crypto', 'zod']);

function reach(file: string, seen: Map<string, string[]>): void {
  if (seen.has(file)) return;
  const source = readFileSync(file, 'utf8');
  const imports = [...source.matchAll(/^(?:import|export)\s+(?!type\b)[^;]*?from '([^']+)';/gm)].map(
    (match) => match[1] ?? '',
  );
  seen.set(
    file,
    imports.filter((name) => !name.startsWith('.')),
  );
  for (const name of imports) if (name.startsWith('.')) reach(join(dirname(file), name), seen);
}

test('nothing that the app reaches needs Node', () => {
  const seen = new Map<string, string[]>();
  reach(join(import.meta.dirname, 'app.ts'), seen);
  expect(seen.size).toBeGreaterThan(30);
  const foreign = [...seen].flatMap(([file, names]) =>
    names.filter((name) => !ALLOWED.has(name)).map((name) => `${relative(import.meta.dirname, file)}: ${name}`),
  );
  expect(foreign).toEqual([]);
  const rooms = [...seen.keys()].map((file) => relative(join(import.meta.dirname, '..'), file));
  expect(rooms.filter((file) => !/^(gateway|pool\/wire)\//.test(file))).toEqual([]);
});
