// `npm run doctor`: what Hearth would run on, and what to do about each thing that keeps it from serving. Exit code 1 if there is one.
// `--retune` throws away which kernels were measured to be the fastest: the next start measures again.
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AdapterSearchError } from '../engine/gpu/adapterOrder.ts';
import { type AdapterChoice, findAdapter } from '../engine/gpu/adapterSearch.ts';
import { systemDrivers } from '../engine/gpu/systemDrivers.ts';
import { loadConfig } from './config.ts';
import { isForeign } from './configSchema.ts';
import { checkDataDir, checkModel, checkPort, checkVersions, type Finding } from './doctorChecks.ts';
import { tuningFile } from './prepare.ts';
import { checkTuning, forgetTuning } from './tuningFindings.ts';
import { checkUpstream } from './upstreamFindings.ts';

/** Limits that decide how models are laid out; the rest are Dawn's for every adapter. */
const SHOWN_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupStorageSize',
];

const { retune } = parseArgs({ options: { retune: { type: 'boolean', default: false } } }).values;
const root = fileURLToPath(new URL('..', import.meta.url));
const env = process.env;
let problems = 0;

function show({ name, state, text }: Finding): void {
  if (state === 'problem') problems++;
  const mark = { ok: 'ok     ', note: 'note   ', problem: 'PROBLEM' }[state];
  process.stdout.write(`${mark}  ${name.padEnd(24)}  ${text.replaceAll('\n', `\n${' '.repeat(35)}`)}\n`);
}

async function attempt(name: string, look: () => Promise<void>): Promise<void> {
  try {
    await look();
  } catch (error) {
    show({ name, state: 'problem', text: error instanceof Error ? error.message : String(error) });
  }
}

function showAdapter({ name, kind, rejected, limits, features, info }: AdapterChoice): void {
  show({ name: 'adapter', state: kind === 'swiftshader' ? 'note' : 'ok', text: `${name} (${kind})` });
  for (const each of rejected) show({ name: `  not ${each.name}`, state: 'note', text: each.why });
  const mesa = systemDrivers(env).lavapipe;
  if (mesa) show({ name: '  Mesa', state: 'ok', text: mesa });
  show({ name: '  vendor, architecture', state: 'ok', text: `${info.vendor}, ${info.architecture}` });
  show({ name: '  limits', state: 'ok', text: SHOWN_LIMITS.map((limit) => `${limit} ${limits[limit]}`).join('\n') });
  show({ name: '  features', state: 'ok', text: features.join(' ') });
}

for (const finding of checkVersions(root)) show(finding);
await attempt('configuration', async () => {
  const { config, file } = loadConfig(root, env);
  show({ name: 'configuration', state: 'ok', text: file ?? 'defaults; there is no hearth.config.json' });
  const foreign = config.pools.filter(isForeign);
  const onlyForeign = foreign.length === config.pools.length;
  await attempt('adapter', async () => {
    if (onlyForeign)
      return show({ name: 'adapter', state: 'ok', text: 'none is needed: all pools are foreign servers' });
    try {
      const choice = await findAdapter({ wanted: config.adapter, env });
      showAdapter(choice);
      show(await (retune ? forgetTuning(tuningFile(env)) : checkTuning(tuningFile(env), choice)));
    } catch (error) {
      if (!(error instanceof AdapterSearchError)) throw error;
      show({ name: 'adapter', state: 'problem', text: error.message });
    }
  });
  for (const entry of config.models)
    await attempt(`model ${entry.id}`, async () => show(await checkModel(entry, config, env)));
  for (const pool of foreign) for (const finding of await checkUpstream(pool, env)) show(finding);
  show(checkDataDir(config.server.dataDir));
  show(await checkPort(config.server));
});
process.stdout.write(
  problems === 0 ? '\nHearth can serve here: npm start\n' : `\n${problems} to mend before Hearth can serve here.\n`,
);
process.exit(problems === 0 ? 0 : 1);
