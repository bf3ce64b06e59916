// `npm run chaos -- [--seed N] [--requests N] [--concurrency N] [--gateway-kills N] [--pool-kills N] [--engine]`: a storm over real processes,
// and what it leaves. Ends with 1 where a promise was broken; the same seed draws the same requests and the same moments again.
import { parseArgs } from 'node:util';
import { realEngine } from './realEngine.ts';
import { storm } from './storm.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    requests: { type: 'string' },
    concurrency: { type: 'string' },
    'gateway-kills': { type: 'string' },
    'pool-kills': { type: 'string' },
    engine: { type: 'boolean', default: false },
  },
});
const number = (text: string | undefined, otherwise: number) => (text === undefined ? otherwise : Number(text));
const real = values.engine ? await realEngine() : null;
const seed = number(values.seed, Math.floor(Math.random() * 2 ** 31));
console.log(`seed ${seed}`);
const report = await storm({
  seed,
  requests: number(values.requests, real ? 200 : 2000),
  concurrency: number(values.concurrency, real ? 16 : 50),
  gatewayKills: number(values['gateway-kills'], real ? 4 : 20),
  poolKills: number(values['pool-kills'], real ? 2 : 10),
  model: real?.model ?? 'bytes',
  ...(real && { engine: real.engine }),
  say: (line) => console.log(line),
});
await real?.close();
console.log(`${report.seconds.toFixed(1)} s, ${report.tries} tries`, report.endings);
for (const [limit, { seen, limit: most }] of Object.entries(report.most))
  console.log(`  ${limit}: at most ${seen} of ${most}`);
console.log(report.faults.length === 0 ? 'No fault.' : `${report.faults.length} faults, with seed ${seed}:`);
for (const fault of report.faults.slice(0, 50)) console.log(`  ${fault}`);
process.exit(report.faults.length === 0 ? 0 : 1);
