// What the architecture promises about the tree itself: which room imports which, what files are called, what nobody leaves behind, and
// that documents point at things that exist. Reads the files that git knows, or would take in.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const sources = files.filter((file) => /\.(ts|mjs)$/.test(file));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

/** Paths inside the repository that a source file imports: statically, dynamically, or as the URL of a process or worker. */
function importsOf(file: string, text: string): string[] {
  const found = text.matchAll(
    /(?:\bfrom|\bimport|\bimport\(|new URL\()\s*['"](\.{1,2}\/[^'"]+)['"](?!, import\.meta\.resolve)/g,
  );
  return [...found].map(([, path]) => normalize(join(dirname(file), path ?? '')));
}

/** Rooms that a room may import besides itself. */
const ARROWS: Record<string, readonly string[]> = {
  wgsl: [],
  engine: ['wgsl/'],
  pool: ['engine/', 'wgsl/'],
  gateway: ['pool/wire/'],
};

/** Arrows that go the wrong way. Tests, which nothing imports, may use all. */
function wrongArrows(file: string, text: string): string[] {
  const room = file.split('/')[0] ?? '';
  const others = ARROWS[room];
  if (!others || file.endsWith('.test.ts')) return [];
  const allowed = file.startsWith('pool/wire/') ? ['pool/wire/'] : [`${room}/`, ...others];
  return importsOf(file, text)
    .filter((path) => !allowed.some((prefix) => path.startsWith(prefix)))
    .map((path) => `${file} imports ${path}`);
}

describe('imports', () => {
  it('point one way: gateway to the wire of the pool, pool to engine, engine to wgsl', () => {
    expect(sources.flatMap((file) => wrongArrows(file, read(file)))).toEqual([]);
    expect(sources.length).toBeGreaterThan(50);
  });

  it.each([
    ['engine/a.ts', "import { x } from '../pool/b.ts';"],
    ['engine/a.ts', "const x = await import('../gateway/b.ts');"],
    ['gateway/keys/a.ts', "import type { x } from '../../pool/config.ts';"],
    ['gateway/a.ts', "export * from '../engine/invariant.ts';"],
    ['wgsl/matmul/a.ts', "import '../../engine/b.ts';"],
    ['pool/a.ts', "new Worker(new URL('../bin/b.ts', import.meta.url));"],
    ['pool/a.ts', "import { x } from '../test/support/b.ts';"],
    ['pool/wire/a.ts', "import { x } from '../errors.ts';"],
  ])('%s may not say %s', (file, text) => {
    expect(wrongArrows(file, text)).toHaveLength(1);
  });

  it.each([
    ['gateway/keys/a.ts', "import type { x } from '../../pool/wire/events.ts';"],
    ['pool/a.test.ts', "import { x } from '../test/support/b.ts';"],
    ['bin/a.ts', "import { x } from '../gateway/config.ts';"],
  ])('%s may say %s', (file, text) => {
    expect(wrongArrows(file, text)).toEqual([]);
  });

  it('lead to files that exist', () => {
    const missing = sources
      .filter((file) => !file.endsWith('tidy.test.ts'))
      .flatMap((file) =>
        importsOf(file, read(file))
          .filter((path) => !existsSync(join(root, path)))
          .map((path) => `${file}: ${path}`),
      );
    expect(missing).toEqual([]);
  });
});

it('no file is called after nothing', () => {
  expect(files.filter((file) => /(^|\/)(utils?|helpers?|common|misc)(\.|\/|$)/i.test(file))).toEqual([]);
});

it('nothing is left for later, and no test is switched off or narrowed', () => {
  const marks = [
    /\b(TODO|FIXME|XXX|HACK)\b/,
    /\b(it|test|describe)\.(only|skip|todo)\b/,
    /@ts-(ignore|nocheck|expect-error)/,
    /\bas unknown as\b/,
  ];
  const left = sources
    .filter((file) => !file.endsWith('tidy.test.ts'))
    .flatMap((file) => marks.filter((mark) => mark.test(read(file))).map((mark) => `${file}: ${mark}`));
  expect(left).toEqual([]);
});

describe('packages', () => {
  const manifest: Record<'dependencies' | 'devDependencies', Record<string, string>> & {
    allowScripts: Record<string, boolean>;
  } = JSON.parse(read('package.json'));
  const lock: { packages: Record<string, { hasInstallScript?: boolean; optional?: boolean; resolved?: string }> } =
    JSON.parse(read('package-lock.json'));

  it('whose install scripts run are allowed by name, and no others', () => {
    const withScripts = Object.entries(lock.packages)
      .filter(([, { hasInstallScript, optional }]) => hasInstallScript && !optional)
      .map(([path]) => path.replace(/^.*node_modules\//, ''));
    expect(Object.keys(manifest.allowScripts).sort()).toEqual(withScripts.sort());
    expect(Object.values(manifest.allowScripts).every((allowed) => allowed === true)).toBe(true);
  });

  it('are pinned to one version each', () => {
    const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  it('come from whatever registry the machine uses: the lockfile names none', () => {
    expect(Object.values(lock.packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
  });
});

it('.ci/run names no host: mirrors come from the machine', () => {
  const script = read('.ci/run').replace(/^#.*$/gm, '');
  expect(script).not.toMatch(/https?:|[\w-]+\.(org|com|net|io|dev)\b/);
  expect(script).toContain('apt-get indextargets');
  expect(script).toContain('npm test');
});

describe('documents', () => {
  const documents = files.filter((file) => file.endsWith('.md'));

  /** Headings of a document, as links name them. */
  const anchors = (text: string) =>
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    );

  function brokenLinks(file: string, text: string): string[] {
    const prose = text.replaceAll(/```[\s\S]*?```/g, '');
    return [...prose.matchAll(/\]\(([^)\s]+)(?:\s+"[^"]*")?\)/g)]
      .map(([, link = '']) => link)
      .filter((link) => !/^[a-z]+:/.test(link))
      .filter((link) => {
        const [path = '', anchor] = link.split('#');
        const target = path === '' ? file : normalize(join(dirname(file), path));
        if (path !== '' && !existsSync(join(root, target))) return true;
        return (
          anchor !== undefined &&
          target.endsWith('.md') &&
          !anchors(target === file ? text : read(target)).includes(anchor)
        );
      })
      .map((link) => `${file}: ${link}`);
  }

  it('point at files and headings that exist', () => {
    expect(documents.length).toBeGreaterThan(0);
    expect(documents.flatMap((file) => brokenLinks(file, read(file)))).toEqual([]);
  });

  it('name series of metrics that are exported', () => {
    const exporters = sources.filter((file) => /^(pool|gateway)\//.test(file) && !file.endsWith('.test.ts'));
    const code = exporters.map(read).join('\n');
    // The pool's engines put the first words before the names of their families.
    const isExported = (name: string) =>
      code.includes(name) || new RegExp(`['"\`]${name.replace('hearth_pool_', '')}['"\`]`).test(code);
    const named = documents.flatMap((file) => read(file).match(/\bhearth_(pool|gateway)_[a-z_]*[a-z]/g) ?? []);
    expect(named.length).toBeGreaterThan(15);
    expect([...new Set(named)].filter((name) => !isExported(name))).toEqual([]);
    expect(isExported('hearth_pool_queued_tokens')).toBe(false);
  });

  it('a broken link is seen', () => {
    const text =
      '# One thing\n[a](absent.md) [b](#two) [c](#one-thing) [d](../package.json) [e](https://example.org/x)';
    expect(brokenLinks('docs/x.md', text)).toEqual(['docs/x.md: absent.md', 'docs/x.md: #two']);
  });
});
