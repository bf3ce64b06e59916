// How a model's source is written in the configuration, and what it means:
//   file:path                              a file of this machine, used where it lies
//   hf:owner/repo/path@revision            a file of a model hub's repository
//   pypi:package==version/path             a file inside a wheel
// Parts come into addresses and into another program's arguments, so each is matched against what its field allows.
import { ModelSourceError } from './sourceErrors.ts';

export type ModelSourceName =
  | { kind: 'file'; path: string }
  | { kind: 'hub'; owner: string; repo: string; path: string; revision: string }
  | { kind: 'pypi'; package: string; version: string; path: string };

export const SOURCE_FORMS = 'file:path, hf:owner/repo/path@revision, pypi:package==version/path';

const HUB = /^hf:([A-Za-z0-9][\w.-]{0,95})\/([A-Za-z0-9][\w.-]{0,95})\/([^@]{1,500})@([\w][\w./-]{0,199})$/;
const PYPI =
  /^pypi:([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)==([0-9A-Za-z][0-9A-Za-z.!+_-]{0,63})\/(.{1,500})$/;

/** Relative, inside its root, without anything that a file system or an address could read in another way. */
function isPlainPath(path: string): boolean {
  return path.split('/').every((part) => /^[\w][\w. +-]*$/.test(part) && !/[. ]$/.test(part));
}

/** Throws ModelSourceError `bad_source`. */
export function parseSourceName(source: string): ModelSourceName {
  if (source.startsWith('file:') && source.length > 5 && !source.includes('\0'))
    return { kind: 'file', path: source.slice(5).replace(/^\/\/(?=\/)/, '') };
  const [, owner, repo, hubPath, revision] = HUB.exec(source) ?? [];
  if (owner && repo && hubPath && revision && isPlainPath(hubPath) && !revision.includes('..'))
    return { kind: 'hub', owner, repo, path: hubPath, revision };
  const [, name, version, wheelPath] = PYPI.exec(source) ?? [];
  if (name && version && wheelPath && isPlainPath(wheelPath))
    return { kind: 'pypi', package: name, version, path: wheelPath };
  const hint =
    source.startsWith('hf:') && !source.includes('@') ? ' (a revision is missing: add @main, or better a commit)' : '';
  throw new ModelSourceError(
    'bad_source',
    `the model source ${JSON.stringify(source)} is not of the form ${SOURCE_FORMS}${hint}`,
  );
}
