// deploy/kubernetes as kubectl applies it: each overlay rendered into one committed file, for those who have no kustomize and for the tests,
// which read nothing else. The file begins with a digest of all that it was made of, so that a machine that can't render still knows a stale one.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

export const OVERLAYS = ['dev', 'gpu'] as const;
export type Overlay = (typeof OVERLAYS)[number];

const RENDERERS = [
  ['kustomize', 'build'],
  ['kubectl', 'kustomize'],
] as const;

export const renderedFile = (folder: string, overlay: Overlay): string => join(folder, 'rendered', `${overlay}.yaml`);

/** First line of a rendered file. `folder`: deploy/kubernetes. */
export function headOf(folder: string): string {
  const digest = createHash('sha256');
  for (const room of ['base', 'components', 'overlays'])
    for (const file of filesBelow(join(folder, room)))
      digest.update(relative(folder, file)).update('\0').update(readFileSync(file)).update('\0');
  return `# Made by npm run kubernetes:render from sources ${digest.digest('hex')}.`;
}

/** The whole file; null where neither kustomize nor kubectl is there. Throws what the renderer says. */
export function render(folder: string, overlay: Overlay): string | null {
  for (const [command, ...args] of RENDERERS) {
    const { status, stdout, stderr, error } = spawnSync(command, [...args, join(folder, 'overlays', overlay)], {
      encoding: 'utf8',
    });
    if (error) continue;
    if (status !== 0) throw new Error(`${command} refuses the overlay ${overlay}: ${stderr}`);
    return `${headOf(folder)}\n${stdout}`;
  }
  return null;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
