// What use cost, as the routes tell it: by day, project, key and line item, in the exports, and one number wherever it is asked.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { focusFaults, nanoUsd, parseFocus } from '../../test/support/focusValidator.ts';
import { ADMIN_KEY, bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';

let rig: GatewayRig;
let tenants: Tenant[];
beforeEach(async () => {
  rig = await GatewayRig.start();
  tenants = [await rig.tenant(), await rig.tenant()];
});
afterEach(() => rig.stop());

interface CostPage {
  data: {
    start_time: number;
    results: {
      amount: { value: number; currency: string; nano_usd: string };
      line_item: string | null;
      project_id: string | null;
      api_key_id: string | null;
      quantity: number | null;
    }[];
  }[];
  has_more: boolean;
  next_page: string | null;
}
const get = (path: string) => rig.request('GET', `/v1/organization${path}`, { key: ADMIN_KEY });
const now = () => Math.floor(Date.now() / 1000);
const costs = async (query = '') =>
  (await rig.admin<CostPage>('GET', `/costs?start_time=${now() - 60}${query}`)).data.flatMap(({ results }) => results);
const serve = async (count: number) => {
  for (let i = 0; i < count; i++)
    for (const { key } of tenants) {
      const body = { model: 'tiny', prompt: [1, 2, 3], max_tokens: 2 + i };
      expect((await rig.request('POST', '/v1/completions', { key, body })).status).toBe(200);
    }
};

test('costs, exports and the ledger are one number, also when the price changes between', async () => {
  await serve(1);
  await rig.admin('POST', '/prices', {
    model: 'tiny',
    input_nano_usd: 123,
    cached_input_nano_usd: 1,
    output_nano_usd: 4567,
  });
  await serve(3);
  await rig.ports.clock.sleep(2);
  await rig.admin('POST', '/prices', { model: 'tiny', input_nano_usd: 1, output_nano_usd: 2 });
  await serve(1);
  const entries = await rig.entries();
  const billed = entries.reduce((sum, { costNanoUsd }) => sum + BigInt(costNanoUsd), 0n);
  const charged = entries.map(({ inputTokens, cachedInputTokens, outputTokens }, i) => {
    const [input, cached, output] = i < 2 ? [0, 0, 0] : i < 8 ? [123, 1, 4567] : [1, 1, 2];
    return (inputTokens - cachedInputTokens) * input + cachedInputTokens * cached + outputTokens * output;
  });
  expect(entries.map(({ costNanoUsd }) => costNanoUsd)).toEqual(charged);
  expect(new Set(entries.map(({ price }) => price?.version)).size).toBe(3);

  const total = (all: Awaited<ReturnType<typeof costs>>) =>
    all.reduce((sum, one) => sum + BigInt(one.amount.nano_usd), 0n);
  expect(await costs()).toEqual([
    {
      object: 'organization.costs.result',
      amount: { value: Number(billed) / 1e9, currency: 'usd', nano_usd: billed.toString() },
      ...{ line_item: null, project_id: null, api_key_id: null, quantity: null },
    },
  ]);
  for (const groups of ['&group_by[]=line_item', '&group_by=project_id,api_key_id', '&group_by[]=project_id'])
    expect(total(await costs(groups))).toBe(billed);
  const items = await costs('&group_by[]=line_item');
  const quantityOf = (item: string) => items.find(({ line_item }) => line_item === `tiny, ${item}`)?.quantity ?? 0;
  expect(quantityOf('input_tokens') + quantityOf('cached_input_tokens')).toBe(30);
  expect(quantityOf('output_tokens')).toBe(26);
  expect(await costs('&group_by[]=line_item&line_items[]=tiny%2C%20output_tokens')).toEqual(
    items.filter(({ line_item }) => line_item === 'tiny, output_tokens'),
  );
  expect(total(await costs(`&project_ids[]=${tenants[0]?.id}`))).toBe(billed / 2n);

  const focus = await get('/usage/export?format=focus');
  expect(focus.headers.get('content-type')).toContain('text/csv');
  const text = await focus.text();
  expect(focusFaults(text)).toEqual([]);
  expect(parseFocus(text).rows[0]).toMatchObject({ BillingAccountId: 'acct-1', InvoiceIssuerName: 'Some Issuer' });
  expect(parseFocus(text).rows.reduce((sum, row) => sum + nanoUsd(row.BilledCost ?? ''), 0n)).toBe(billed);
  const lines = (await (await get('/usage/export?format=jsonl')).text()).trim().split('\n');
  expect(lines.reduce((sum, line) => sum + nanoUsd(JSON.parse(line).cost_usd), 0n)).toBe(billed);

  const cursor = focus.headers.get('x-next-cursor') ?? '';
  await serve(1);
  expect(await (await get(`/usage/export?format=focus&until=${cursor}`)).text()).toBe(text);
  const later = await (await get(`/usage/export?format=focus&cursor=${cursor}`)).text();
  const quantities = parseFocus(later).rows.map(({ ConsumedQuantity }) => Number(ConsumedQuantity));
  expect(quantities.reduce((sum, one) => sum + one, 0)).toBe(10);
});

test('the journals of pools and the bill agree; where they do not, it is told', async () => {
  interface Reconciliation {
    pools: { id: string; reachable: boolean; receipts: number }[];
    differences: { request_id: string; kind: string; receipt: object; entry: object | null }[];
    estimated: { num_model_requests: number };
  }
  const reconcile = () => rig.admin<Reconciliation>('GET', '/usage/reconciliation');
  await serve(2);
  expect(await reconcile()).toMatchObject({
    ...{ pools: [{ id: 'pool-a', reachable: true, receipts: 4 }], differences: [] },
    estimated: { num_model_requests: 0 },
  });
  const [first, second] = await rig.entries();
  if (!first || !second) throw new Error('four requests');
  rig.db.exec(`UPDATE usage SET output = output + 1 WHERE request_id = '${first.requestId}'`);
  rig.db.exec(`DELETE FROM usage WHERE request_id = '${second.requestId}'`);
  const { differences } = await reconcile();
  expect(new Set(differences)).toEqual(
    new Set([
      expect.objectContaining({ request_id: first.requestId, kind: 'differs' }),
      expect.objectContaining({ request_id: second.requestId, kind: 'unsettled', entry: null }),
    ]),
  );
  await rig.pool.kill();
  expect((await reconcile()).pools).toMatchObject([{ reachable: false, receipts: 0 }]);
});

test.each([
  ['', 'start_time'],
  ['start_time=1&limit=181', 'limit'],
  ['start_time=1&bucket_width=1h', 'bucket_width'],
  ['start_time=5&end_time=5', 'end_time'],
  ['start_time=1&group_by[]=model', 'group_by.0'],
  ['start_time=1&colour=red', 'colour'],
])('costs?%s is refused by its parameter', async (query, param) => {
  const response = await get(`/costs?${query}`);
  expect(response.status).toBe(400);
  expect((await bodyOf(response)).error.param).toBe(param);
});

test('pages of days are gapless', async () => {
  const start = now() - 5 * 86_400;
  const starts: number[] = [];
  for (let page = ''; ; ) {
    const answer = await rig.admin<CostPage>('GET', `/costs?start_time=${start}&limit=2${page && `&page=${page}`}`);
    starts.push(...answer.data.map(({ start_time }) => start_time));
    if (!answer.has_more) break;
    page = answer.next_page ?? '';
  }
  expect(starts).toEqual(Array.from({ length: 6 }, (_, i) => start - (start % 86_400) + i * 86_400));
});
