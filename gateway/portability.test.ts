// The app must run where there is no Node: everything that app.ts reaches, types aside, imports the web's APIs and node:crypto alone; the
// Worker around it, besides, what its runtime brings. And what an isolate keeps belongs to values that somebody made: no module of either
// has state of its own.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const ALLOWED = new Set(['@opentelemetry/api', 'hono', 'hono/route', 'lru-cache', 'node:crypto', 'zod']);

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

function foreign(entry: string, allowed: ReadonlySet<string>): { files: string[]; foreign: string[] } {
  const seen = new Map<string, string[]>();
  reach(join(import.meta.dirname, entry), seen);
  const names = [...seen].flatMap(([file, imported]) =>
    imported.filter((name) => !allowed.has(name)).map((name) => `${relative(import.meta.dirname, file)}: ${name}`),
  );
  return { files: [...seen.keys()], foreign: names };
}

test.each([
  ['app.ts', ALLOWED],
  ['worker.ts', new Set([...ALLOWED, 'cloudflare:workers'])],
])('nothing that %s reaches needs Node', (entry, allowed) => {
  const reached = foreign(entry, allowed);
  expect(reached.files.length).toBeGreaterThan(30);
  expect(reached.foreign).toEqual([]);
  const rooms = reached.files.map((file) => relative(join(import.meta.dirname, '..'), file));
  expect(rooms.filter((file) => !/^(gateway|pool\/wire)\//.test(file))).toEqual([]);
});

test('no module that the app reaches has state of its own', () => {
  const stateful = foreign('app.ts', ALLOWED).files.filter((file) =>
    /^(export )?(let |const \w+ = new (Map|LRUCache|WeakMap)\b(?!.*readonly))/m.test(readFileSync(file, 'utf8')),
  );
  expect(stateful).toEqual([]);
});
