// `npm test`: adapter and model as for `npm start`, then types, lint and all tests, each also when one before failed. The last line is
// the plain tally; the exit code says the same. Arguments go to vitest: npm test -- engine/model.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ENV_ONLY, ENV_OVERRIDES } from './configSchema.ts';
import { DEFAULT_MODEL } from './defaultModel.ts';
import { prepareAdapter, prepareModel } from './prepare.ts';
import { ProgressLine } from './progressLine.ts';
import { addTally, type Tally, tallyLine, tallyVitest } from './testTally.ts';

const progress = new ProgressLine(process.stdout, Date.now);
const scratch = mkdtempSync(join(tmpdir(), 'hearth-test-'));
const children = new Set<number>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    for (const pid of children) process.kill(pid, signal);
  });

/** The caller's own settings would make tests pass here and fail elsewhere. */
function cleanEnv(): NodeJS.ProcessEnv {
  const own = [...ENV_OVERRIDES, ...ENV_ONLY].flatMap(({ name }) => name.split(', '));
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.includes(name)));
}

function run(script: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [script, ...args], { stdio: 'inherit', env });
    const { pid } = child;
    if (pid !== undefined) children.add(pid);
    child.on('error', () => resolve(1));
    child.on('exit', (code) => {
      if (pid !== undefined) children.delete(pid);
      resolve(code);
    });
  });
}

async function check(name: string, script: string, args: readonly string[]): Promise<Tally> {
  progress.say(`\n${name}`);
  const code = await run(script, args, process.env);
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

async function vitest(args: readonly string[], env: NodeJS.ProcessEnv): Promise<Tally> {
  progress.say('\nTests');
  const file = join(scratch, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const code = await run('node_modules/vitest/vitest.mjs', ['run', ...reporters, ...args], env);
  try {
    return tallyVitest(JSON.parse(readFileSync(file, 'utf8')), code);
  } catch {
    return tallyVitest(null, code);
  }
}

async function all(): Promise<Tally> {
  const adapter = await prepareAdapter(progress, 'auto', process.env);
  const { HEARTH_MODEL_CACHE: cacheDir } = process.env;
  const model = await prepareModel(progress, DEFAULT_MODEL, { cacheDir, env: process.env });
  const env = {
    ...cleanEnv(),
    ...adapter.env,
    HEARTH_TEST_MODEL: model.path,
    HEARTH_TEST_ADAPTER: JSON.stringify(adapter),
  };
  const types = await check('Types (tsc)', 'node_modules/typescript/bin/tsc', ['-p', '.']);
  const lint = await check('Format and lint (biome)', 'node_modules/@biomejs/biome/bin/biome', ['check']);
  return addTally(addTally(types, lint), await vitest(process.argv.slice(2), env));
}

let tally: Tally;
try {
  tally = await all();
} catch (error) {
  progress.say(error instanceof Error ? error.message : String(error));
  tally = { passed: 0, failed: 1 };
}
rmSync(scratch, { recursive: true, force: true });
process.stdout.write(`${tallyLine(tally)}\n`, () => process.exit(tally.failed === 0 ? 0 : 1));
