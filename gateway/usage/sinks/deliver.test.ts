// Deliveries against real endpoints and folders that fail at any moment: every row arrives, and a sink that remembers identifiers has each once.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type BilledRow, type Delivery, type DeliveryPorts, deliverAll, type Sink } from './deliver.ts';
import { folderSink, httpSink } from './jsonl.ts';
import { meterEvents, stripeSink } from './stripe.ts';

const HOUR_MS = 3_600_000;
const row = (cursor: number): BilledRow => ({
  ...{ cursor, request_id: `req_${cursor}`, project_id: cursor % 3 === 0 ? 'proj_b' : 'proj_a', api_key_id: 'key_1' },
  ...{ model: 'tiny', input_tokens: 10, input_cached_tokens: cursor % 2 === 0 ? 4 : 0, output_tokens: cursor },
  ...{ outcome: 'completed', price_id: '', cost_usd: '0' },
  ...{ reserved_at: '2026-07-15T12:00:00.500Z', settled_at: '2026-07-15T12:00:01.000Z' },
});
const ROWS = Array.from({ length: 23 }, (_, i) => row(i + 1));

/** A store in memory, batches of five. */
class Store {
  state: Delivery = { cursor: 0, pending: null };
  nowMs = 1_800_000_000_000;

  ports(sink: Sink): DeliveryPorts {
    return {
      sink,
      rows: async (after, upTo) =>
        ROWS.filter(({ cursor }) => cursor > after && (upTo === null || cursor <= upTo)).slice(0, 5),
      read: async () => this.state,
      write: async (state) => {
        this.state = state;
      },
      now: () => this.nowMs,
    };
  }
}

test('whatever breaks, every row arrives, and a batch that is sent again is the same batch', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom('ok', 'lost', 'arrived'), { maxLength: 30 }), async (weather) => {
      const store = new Store();
      const had = new Map<string, string>();
      const sink: Sink = {
        dedupeWindowMs: 24 * HOUR_MS,
        async deliver({ id, rows }) {
          const today = weather.shift() ?? 'ok';
          if (today === 'lost') throw new Error('lost');
          const text = JSON.stringify(rows);
          expect(had.get(id) ?? text).toBe(text);
          had.set(id, text);
          if (today === 'arrived') throw new Error('arrived, but nobody knows');
        },
      };
      for (let tries = 0; tries < 40; tries++) await deliverAll(store.ports(sink), false).catch(() => 0);
      const rows = [...had.values()].flatMap((text): BilledRow[] => JSON.parse(text));
      expect(rows).toEqual(ROWS);
      expect(store.state).toEqual({ cursor: 23, pending: null });
    }),
  );
});

test('what a sink may have had and forgotten is sent again only by explicit word', async () => {
  const store = new Store();
  let fails = true;
  const sent: string[] = [];
  const sink: Sink = {
    dedupeWindowMs: 24 * HOUR_MS,
    async deliver({ id }) {
      sent.push(id);
      if (fails) throw new Error('no answer');
    },
  };
  await expect(deliverAll(store.ports(sink), false)).rejects.toThrow('no answer');
  store.nowMs += 23 * HOUR_MS;
  await expect(deliverAll(store.ports(sink), false)).rejects.toThrow('no answer');
  store.nowMs += HOUR_MS;
  fails = false;
  await expect(deliverAll(store.ports(sink), false)).rejects.toThrow(/Rows 1 to 5 were sent 24 hours ago.*--replay/);
  expect(sent).toEqual(['hearth-0-5', 'hearth-0-5']);
  expect(await deliverAll(store.ports(sink), true)).toBe(23);
  expect(await deliverAll(store.ports(sink), false)).toBe(0);
});

describe('over HTTP', () => {
  const got: { path: string; key: string; body: string }[] = [];
  let answer: { status: number; body: string };
  let url: string;
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(Buffer.from(piece));
    const body = Buffer.concat(pieces).toString();
    got.push({ path: request.url ?? '', key: String(request.headers['idempotency-key']), body });
    response.writeHead(answer.status).end(answer.body);
  });
  beforeEach(async () => {
    got.length = 0;
    answer = { status: 200, body: '{}' };
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (typeof address !== 'object' || !address) throw new Error('listening');
    url = `http://127.0.0.1:${address.port}`;
  });
  afterEach(
    () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );

  test('JSON lines go out in batches with a key each', async () => {
    const sink = httpSink(`${url}/bill`, HOUR_MS, fetch);
    expect(await deliverAll(new Store().ports(sink), false)).toBe(23);
    expect(got.map(({ path, key }) => [path, key])).toEqual(
      [0, 5, 10, 15, 20].map((from) => ['/bill', `hearth-${from}-${Math.min(from + 5, 23)}`]),
    );
    const lines = got.flatMap(({ body }) => body.trim().split('\n'));
    expect(lines.map((line) => JSON.parse(line))).toEqual(ROWS);
    answer = { status: 503, body: '' };
    await expect(deliverAll(new Store().ports(sink), false)).rejects.toThrow('503');
  });

  test('Stripe gets an event per request and meter of a known customer, and may have had it', async () => {
    const meters = { input: 'in', cached_input: 'cached', output: 'out' };
    const options = { apiKey: 'sk_test', customers: { proj_a: 'cus_1' }, meters, url };
    expect(meterEvents([row(2), row(3)], options)).toEqual(
      [
        ['in', 'input', '6'],
        ['cached', 'cached_input', '4'],
        ['out', 'output', '2'],
      ].map(([event_name, meter, value]) => ({
        ...{ event_name, identifier: `req_2-${meter}`, timestamp: 1_784_116_800 },
        payload: { stripe_customer_id: 'cus_1', value },
      })),
    );
    const sink = stripeSink(options, fetch);
    await sink.deliver({ id: 'x', rows: [row(2)] });
    const form = new URLSearchParams(got[0]?.body);
    expect(Object.fromEntries(form)).toEqual({
      ...{ event_name: 'in', identifier: 'req_2-input', timestamp: '1784116800' },
      ...{ 'payload[stripe_customer_id]': 'cus_1', 'payload[value]': '6' },
    });
    expect(got.map(({ path, key }) => [path, key])).toEqual(
      ['input', 'cached_input', 'output'].map((meter) => ['/v1/billing/meter_events', `req_2-${meter}`]),
    );
    answer = { status: 400, body: '{"error":{"message":"An event with identifier req_2-input already exists"}}' };
    await sink.deliver({ id: 'x', rows: [row(2)] });
    answer = { status: 400, body: '{"error":{"message":"No such meter"}}' };
    await expect(sink.deliver({ id: 'x', rows: [row(2)] })).rejects.toThrow('400 to req_2-input');
  });
});

test('a folder gets a file per batch, whole or not at all, the same one again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-sink-'));
  const sink = folderSink(folder);
  await deliverAll(new Store().ports(sink), false);
  await deliverAll(new Store().ports(sink), false);
  const files = readdirSync(folder).sort((a, b) => Number(a.split('-')[1]) - Number(b.split('-')[1]));
  expect(files).toHaveLength(5);
  const lines = files.flatMap((file) => readFileSync(join(folder, file), 'utf8').trim().split('\n'));
  expect(lines.map((line) => JSON.parse(line))).toEqual(ROWS);
  rmSync(folder, { recursive: true });
});
