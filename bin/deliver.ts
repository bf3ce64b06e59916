// `npm run deliver -- --state FILE (--folder DIR | --http URL | --stripe FILE)`: brings what was billed since the last time from a running gateway to
// a sink, and exits; for cron. HEARTH_ADMIN_KEY, and for Stripe STRIPE_API_KEY, come from the environment. The Stripe file is JSON:
// {"customers":{"proj_…":"cus_…"},"meters":{"input":"…","cached_input":"…","output":"…"}}.
import { existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { writePrivately } from '../gateway/secrets.ts';
import { billedRow, type Delivery, deliverAll, delivery, type Sink } from '../gateway/usage/sinks/deliver.ts';
import { folderSink, httpSink } from '../gateway/usage/sinks/jsonl.ts';
import { stripeSink } from '../gateway/usage/sinks/stripe.ts';

/** Rows of one batch. */
const BATCH_ROWS = 500;

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:8787' },
    state: { type: 'string' },
    folder: { type: 'string' },
    http: { type: 'string' },
    stripe: { type: 'string' },
    'dedupe-hours': { type: 'string', default: '24' },
    replay: { type: 'boolean', default: false },
  },
});
const stripeFile = z.object({
  customers: z.record(z.string(), z.string()),
  meters: z.object({ input: z.string(), cached_input: z.string(), output: z.string() }),
  url: z.url().optional(),
});

function fail(message: string): never {
  process.stderr.write(`deliver: ${message}\n`);
  process.exit(1);
}

function environment(name: string): string {
  return process.env[name] ?? fail(`set ${name}.`);
}

function sinkOf(): Sink {
  if (values.folder) return folderSink(values.folder);
  if (values.http) return httpSink(values.http, Number(values['dedupe-hours']) * 3_600_000, fetch);
  if (!values.stripe) return fail('name a sink: --folder, --http or --stripe.');
  const { url, ...options } = stripeFile.parse(JSON.parse(readFileSync(values.stripe, 'utf8')));
  return stripeSink({ ...options, apiKey: environment('STRIPE_API_KEY'), ...(url !== undefined && { url }) }, fetch);
}

/** The first lines of the export behind `after`: no more of it is read. */
async function rows(after: number, upTo: number | null) {
  const until = upTo === null ? '' : `&until=${upTo}`;
  const response = await fetch(`${values.url}/v1/organization/usage/export?format=jsonl&cursor=${after}${until}`, {
    headers: { authorization: `Bearer ${environment('HEARTH_ADMIN_KEY')}` },
  });
  if (!response.ok) fail(`the gateway answered ${response.status}.`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const piece of response.body ?? []) {
    text += decoder.decode(piece, { stream: true });
    if (text.split('\n').length > BATCH_ROWS) break;
  }
  const whole = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean);
  return whole.slice(0, BATCH_ROWS).map((line) => billedRow.parse(JSON.parse(line)));
}

const state = values.state ?? fail('name the file that keeps the cursor: --state FILE.');
const read = async (): Promise<Delivery> =>
  existsSync(state) ? delivery.parse(JSON.parse(readFileSync(state, 'utf8'))) : { cursor: 0, pending: null };
const write = async (value: Delivery) => writePrivately(state, value);
try {
  const count = await deliverAll({ sink: sinkOf(), rows, read, write, now: Date.now }, values.replay);
  process.stdout.write(`${count} rows delivered\n`);
} catch (error) {
  fail(error instanceof Error ? error.message : 'the delivery failed.');
}
