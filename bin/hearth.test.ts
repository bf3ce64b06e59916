// The launcher as a process, in a project of its own whose npm is a script that writes down how it was called.
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const NPM = `
const fs = require('node:fs');
fs.appendFileSync('npm-calls', process.argv.slice(2).join(' ') + '\\n');
if (fs.existsSync('npm-fails')) process.exit(9);
const all = process.argv.includes('--include=dev');
const { packages } = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'));
const installed = Object.entries(packages).filter(([path, { dev, optional }]) => path && !optional && (all || !dev));
fs.mkdirSync('node_modules', { recursive: true });
fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages: Object.fromEntries(installed) }));`;

const LOCK = {
  '': { version: '1.0.0' },
  'node_modules/run': { version: '1.0.0' },
  'node_modules/other-platform': { version: '1.0.0', optional: true },
  'node_modules/check': { version: '1.0.0', dev: true },
};

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hearth-launcher-'));
  mkdirSync(join(folder, 'bin'));
  for (const name of ['hearth.mjs', 'install.mjs'])
    copyFileSync(fileURLToPath(new URL(name, import.meta.url)), join(folder, 'bin', name));
  writeFileSync(join(folder, 'npm-cli.js'), NPM);
  writeLock(LOCK);
  for (const name of ['start', 'test']) writeEntry(name, "console.log('ran', ...process.argv.slice(2));");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function writeLock(packages: object): void {
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ packages }));
}
function writeEntry(name: string, body: string): void {
  writeFileSync(join(folder, 'bin', `${name}.ts`), body);
}
function launch(...args: string[]): { child: ChildProcess; output: () => string; ended: Promise<number | string> } {
  const env = { PATH: process.env.PATH, npm_execpath: join(folder, 'npm-cli.js') };
  const child = spawn(process.execPath, ['bin/hearth.mjs', ...args], {
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const ended = new Promise<number | string>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? signal ?? '')),
  );
  return { child, output: () => text, ended };
}
async function run(...args: string[]): Promise<{ code: number | string; output: string; calls: string[] }> {
  const { output, ended } = launch(...args);
  const code = await ended;
  const file = join(folder, 'npm-calls');
  const calls = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  rmSync(file, { force: true });
  return { code, output: output(), calls };
}

describe('what is installed', () => {
  it('is the runtime part for start, once, with its size told; then nothing', async () => {
    const first = await run('start', '--flag', 'value');
    expect(first.calls).toEqual([expect.stringMatching(/^ci --omit=dev /)]);
    expect(first.output).toMatch(
      /Installing runtime packages \(1 to get, about \d+ MB on disk[\s\S]*Installed [\s\S]*ran --flag value/,
    );
    expect(await run('start')).toEqual({ code: 0, output: 'ran\n', calls: [] });
  });

  it('is everything for test; start afterwards takes nothing away', async () => {
    await run('start');
    expect((await run('test')).calls).toEqual([expect.stringMatching(/^ci --include=dev /)]);
    expect((await run('start')).calls).toEqual([]);
    expect((await run('test')).calls).toEqual([]);
  });

  it('is renewed when the lockfile has another version, and keeps what tests need', async () => {
    await run('test');
    writeLock({ ...LOCK, 'node_modules/run': { version: '1.0.1' } });
    expect((await run('start')).calls).toEqual([expect.stringMatching(/^ci --include=dev /)]);
  });

  it('that fails ends the command with what to look at', async () => {
    writeFileSync(join(folder, 'npm-fails'), '');
    const { code, output } = await run('start');
    expect(code).toBe(1);
    expect(output).toMatch(/npm ci failed \(exit code 9\).*network/);
    expect(output).not.toContain('ran');
  });

  it('an unknown command is refused with those that there are, before anything is installed', async () => {
    expect(await run('serve')).toMatchObject({
      code: 1,
      output: expect.stringMatching(/"serve".*start, pool, doctor, test/),
      calls: [],
    });
  });
});

describe('the process behind', () => {
  const started = async (output: () => string) => {
    while (!output().includes('up')) await new Promise((resolve) => setTimeout(resolve, 10));
  };

  it('gives its exit code', async () => {
    writeEntry('start', 'process.exit(7);');
    expect((await run('start')).code).toBe(7);
  });

  it('that dies by a signal makes the launcher die by it', async () => {
    writeEntry('start', 'process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);');
    expect((await run('start')).code).toBe('SIGKILL');
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('gets %s, and the launcher waits for it', async (signal) => {
    writeEntry(
      'start',
      `process.on('${signal}', () => setTimeout(() => process.exit(3), 100)); console.log('up'); setInterval(() => {}, 1000);`,
    );
    const { child, output, ended } = launch('start');
    await started(output);
    child.kill(signal);
    expect(await ended).toBe(3);
  });

  it('learns that the launcher was killed', async () => {
    const mark = join(folder, 'disconnected');
    writeEntry(
      'start',
      `import { writeFileSync } from 'node:fs';
process.on('disconnect', () => { writeFileSync(${JSON.stringify(mark)}, ''); process.exit(0); });
console.log('up'); setInterval(() => {}, 1000);`,
    );
    const { child, output, ended } = launch('start');
    await started(output);
    child.kill('SIGKILL');
    await ended; // the pipes close only when the process behind is gone, too
    expect(existsSync(mark)).toBe(true);
  });

  it("is stopped when npm's shell died of a signal meant for both", async () => {
    const mark = join(folder, 'stopped');
    writeEntry(
      'start',
      `import { writeFileSync } from 'node:fs';
process.on('SIGTERM', () => { writeFileSync(${JSON.stringify(mark)}, ''); process.exit(0); });
console.log('up'); setInterval(() => {}, 1000);`,
    );
    const shell = spawn('sh', ['-c', `"$NODE" bin/hearth.mjs start; true`], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        NODE: process.execPath,
        npm_execpath: join(folder, 'npm-cli.js'),
        npm_lifecycle_event: 'start',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    shell.stdout.on('data', (chunk) => (text += chunk));
    const ended = new Promise((resolve) => shell.on('close', resolve));
    await started(() => text);
    shell.kill('SIGTERM');
    await ended;
    expect(existsSync(mark)).toBe(true);
  });
});
