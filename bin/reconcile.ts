// `npm run reconcile -- --url http://127.0.0.1:8787`: asks a running gateway whether its bill and its pools' journals agree. Exit code 1 where
// they don't, or where a pool can't be asked.
import { parseArgs } from 'node:util';
import { z } from 'zod';

const answer = z.object({
  pools: z.array(z.object({ id: z.string(), reachable: z.boolean(), receipts: z.int(), has_more: z.boolean() })),
  differences: z.array(z.object({ request_id: z.string(), pool_id: z.string(), kind: z.string() }).loose()),
  estimated: z.object({ num_model_requests: z.int(), input_tokens: z.int(), output_tokens: z.int() }),
});

const { values } = parseArgs({ options: { url: { type: 'string', default: 'http://127.0.0.1:8787' } } });
const key = process.env.HEARTH_ADMIN_KEY;
const say = (line: string) => process.stdout.write(`${line}\n`);

if (!key) {
  say('Set HEARTH_ADMIN_KEY: the development key stands in .hearth/dev-credentials.json.');
  process.exit(1);
}
const response = await fetch(`${values.url.replace(/\/+$/, '')}/v1/organization/usage/reconciliation`, {
  headers: { authorization: `Bearer ${key}` },
}).catch(() => null);
if (!response?.ok) {
  say(response ? `The gateway answered ${response.status}.` : `No gateway answers at ${values.url}.`);
  process.exit(1);
}
const { pools, differences, estimated } = answer.parse(await response.json());
for (const { id, reachable, receipts, has_more } of pools)
  say(`${id}: ${reachable ? `${receipts}${has_more ? ' of more' : ''} receipts in its journal` : "can't be asked"}`);
for (const difference of differences) say(`DIFFERENCE  ${JSON.stringify(difference)}`);
say(`${differences.length} differences; ${estimated.num_model_requests} requests are billed by estimate`);
process.exit(differences.length > 0 || pools.some(({ reachable }) => !reachable) ? 1 : 0);
