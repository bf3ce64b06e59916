// The administration routes and the bill they show, through the app: OpenAI's shapes, paging, refusals, and an export that is the same
// each time it is asked for.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ADMIN_KEY, bodyOf, GatewayRig, type Tenant } from '../../test/support/gatewayRig.ts';

let rig: GatewayRig;
beforeEach(async () => {
  rig = await GatewayRig.start();
});
afterEach(() => rig.stop());

interface List<T> {
  data: T[];
  has_more: boolean;
  first_id: string | null;
  last_id: string | null;
}

const status = async (method: string, path: string, body?: unknown, key = ADMIN_KEY) => {
  const response = await rig.request(method, `/v1/organization${path}`, { key, body });
  return { status: response.status, ...(response.ok ? {} : await bodyOf(response)) };
};

describe('projects and keys', () => {
  test('a project is made, renamed, listed and archived, and then its key is refused', async () => {
    const { id, key } = await rig.tenant();
    expect(await rig.admin('POST', `/projects/${id}`, { name: 'new name' })).toMatchObject({
      id,
      name: 'new name',
      status: 'active',
    });
    expect((await rig.request('GET', '/v1/models', { key })).status).toBe(200);
    expect(await rig.admin('POST', `/projects/${id}/archive`)).toMatchObject({
      status: 'archived',
      archived_at: expect.any(Number),
    });
    expect((await rig.request('GET', '/v1/models', { key })).status).toBe(401);
    expect((await rig.admin<List<object>>('GET', '/projects')).data).toEqual([]);
    expect((await rig.admin<List<object>>('GET', '/projects?include_archived=true')).data).toMatchObject([{ id }]);
    expect(await status('POST', `/projects/${id}/service_accounts`, { name: 'x' })).toMatchObject({ status: 400 });
  });

  test('lists come in pages that join to the whole', async () => {
    const made: string[] = [];
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      made.push((await rig.admin<{ id: string }>('POST', '/projects', { name })).id);
    const seen: string[] = [];
    for (let after = ''; ; ) {
      const page: List<{ id: string }> = await rig.admin('GET', `/projects?limit=2${after && `&after=${after}`}`);
      seen.push(...page.data.map(({ id }) => id));
      expect(page.last_id).toBe(page.data.at(-1)?.id);
      if (!page.has_more) break;
      after = page.last_id ?? '';
    }
    expect(seen).toEqual(made);
    expect(await status('GET', '/projects?limit=0')).toMatchObject({ status: 400, error: { param: 'limit' } });
  });

  test('a key is shown once, listed redacted, and dies with its account', async () => {
    const { id, key, keyId } = await rig.tenant();
    await rig.request('GET', '/v1/models', { key });
    const listed = await rig.admin<List<{ owner: { service_account: { id: string } } }>>(
      'GET',
      `/projects/${id}/api_keys`,
    );
    expect(listed.data).toMatchObject([
      { object: 'organization.project.api_key', id: keyId, last_used_at: expect.any(Number) },
    ]);
    expect(JSON.stringify(listed)).not.toContain(key);
    expect(await rig.admin('GET', `/projects/${id}/api_keys/${keyId}`)).toEqual(listed.data[0]);
    const account = listed.data[0]?.owner.service_account.id ?? '';
    expect(await rig.admin('DELETE', `/projects/${id}/service_accounts/${account}`)).toMatchObject({ deleted: true });
    expect((await rig.request('GET', '/v1/models', { key })).status).toBe(401);
    expect(await status('DELETE', `/projects/${id}/api_keys/${keyId}`)).toMatchObject({
      status: 404,
      error: { code: 'not_found' },
    });
  });

  test('only the admin key opens these routes', async () => {
    const { key } = await rig.tenant();
    expect(await status('GET', '/projects', undefined, key)).toMatchObject({
      status: 403,
      error: { code: 'insufficient_permissions' },
    });
    for (const wrong of ['sk-admin-guess', `${ADMIN_KEY}x`, key.slice(0, -1)])
      expect(await status('GET', '/projects', undefined, wrong)).toMatchObject({ status: 401 });
    expect((await rig.request('GET', '/v1/organization/nothing', {})).status).toBe(401);
    expect(await status('GET', '/nothing')).toMatchObject({ status: 404 });
  });

  test.each([
    [[{ window: 'week', limit_tokens: 1 }], '0.window'],
    [[{ window: 'day', limit_tokens: 1.5 }], '0.limit_tokens'],
    [[{ window: 'day', limit_tokens: -1 }], '0.limit_tokens'],
    [[{ window: 'day', limit_tokens: 1, time_zone: 'Mars/Olympus' }], '0.time_zone'],
    [[{ window: 'day', limit_tokens: 1, tokens: 2 }], '0.tokens'],
    [
      [
        { window: 'day', limit_tokens: 1 },
        { window: 'day', limit_tokens: 2 },
      ],
      null,
    ],
    [{}, null],
  ])('wrong quotas %j are refused and change nothing', async (quotas, param) => {
    const { id, key } = await rig.tenant([{ window: 'month', limit_tokens: 7 }]);
    expect(await status('PUT', `/projects/${id}/token_quotas`, quotas)).toMatchObject({
      status: 400,
      error: { param },
    });
    expect(await rig.limits(key)).toMatchObject([{ metric: 'tokens', window: 'month', limit: 7 }]);
  });
});

describe('usage', () => {
  let acme: Tenant;
  let other: Tenant;
  let told: { input: number; output: number };

  beforeEach(async () => {
    [acme, other] = [await rig.tenant(), await rig.tenant()];
    told = { input: 0, output: 0 };
    for (const [key, max_tokens] of [
      [acme.key, 3],
      [acme.key, 4],
      [other.key, 5],
    ] as const) {
      const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens };
      const answer = await bodyOf<{ usage: { prompt_tokens: number; completion_tokens: number } }>(
        await rig.request('POST', '/v1/chat/completions', { key, body }),
      );
      told.input += answer.usage.prompt_tokens;
      told.output += answer.usage.completion_tokens;
    }
    rig.pool.script = {
      refuse: { status: 400, message: 'No.', type: 'invalid_request_error', param: null, code: null },
    };
    await rig.request('POST', '/v1/chat/completions', {
      key: acme.key,
      body: { model: 'tiny', messages: [{ role: 'user', content: 'x' }] },
    });
  });

  interface UsagePage {
    data: {
      start_time: number;
      end_time: number;
      results: { project_id: string | null; input_tokens: number; output_tokens: number; num_model_requests: number }[];
    }[];
    has_more: boolean;
    next_page: string | null;
  }
  const now = () => Math.floor(Date.now() / 1000);
  const usage = (query: string) => rig.admin<UsagePage>('GET', `/usage/completions?${query}`);

  test('buckets add up to what clients were told, whatever their width and grouping', async () => {
    for (const width of ['1m', '1h', '1d'])
      for (const group of ['', '&group_by[]=project_id&group_by[]=model', '&group_by=project_id,api_key_id']) {
        const page = await usage(`start_time=${now() - 600}&bucket_width=${width}${group}`);
        const results = page.data.flatMap((bucket) => bucket.results);
        expect(results.reduce((sum, one) => sum + one.input_tokens, 0)).toBe(told.input);
        expect(results.reduce((sum, one) => sum + one.output_tokens, 0)).toBe(told.output);
        expect(results.reduce((sum, one) => sum + one.num_model_requests, 0)).toBe(3);
      }
    const grouped = await usage(`start_time=${now() - 600}&group_by[]=project_id&project_ids[]=${acme.id}`);
    expect(grouped.data.flatMap(({ results }) => results)).toMatchObject([
      { project_id: acme.id, output_tokens: 7, num_model_requests: 2 },
    ]);
    const nobody = await usage(`start_time=${now() - 600}&models[]=none`);
    expect(nobody.data.flatMap(({ results }) => results)).toEqual([]);
  });

  test('pages of buckets are gapless and end', async () => {
    const start = now() - 3 * 3600;
    const starts: number[] = [];
    let output = 0;
    for (let page = ''; ; ) {
      const answer = await usage(`start_time=${start}&bucket_width=1h&limit=2${page && `&page=${page}`}`);
      for (const bucket of answer.data) {
        expect(bucket.end_time - bucket.start_time).toBe(3600);
        starts.push(bucket.start_time);
        output += bucket.results.reduce((sum, one) => sum + one.output_tokens, 0);
      }
      if (!answer.has_more) break;
      page = answer.next_page ?? '';
    }
    expect(starts).toEqual([0, 1, 2, 3].map((i) => start - (start % 3600) + i * 3600).slice(0, starts.length));
    expect(starts.length).toBeGreaterThanOrEqual(4);
    expect(output).toBe(told.output);
  });

  test.each([
    ['', 'start_time'],
    ['start_time=x', 'start_time'],
    ['start_time=1&bucket_width=1y', 'bucket_width'],
    ['start_time=1&limit=32', 'limit'],
    ['start_time=5&end_time=5', 'end_time'],
    ['start_time=1&group_by[]=colour', 'group_by.0'],
    ['start_time=1&page=page_x', 'page'],
    ['start_time=1&colour=red', 'colour'],
  ])('usage?%s is refused by its parameter', async (query, param) => {
    expect(await status('GET', `/usage/completions?${query}`)).toMatchObject({ status: 400, error: { param } });
  });

  const exported = async (query: string) => {
    const response = await rig.request('GET', `/v1/organization/usage/export?${query}`, { key: ADMIN_KEY });
    expect(response.status).toBe(200);
    return {
      text: await response.text(),
      cursor: response.headers.get('x-next-cursor') ?? '',
      type: response.headers.get('content-type'),
    };
  };

  test('the export is the same each time, in both formats, and a cursor goes on behind a row', async () => {
    const first = await exported('format=jsonl');
    const rows: { cursor: number; output_tokens: number; outcome: string }[] = first.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(rows.map(({ outcome }) => outcome)).toEqual(['completed', 'completed', 'completed', 'refused']);
    expect(rows.reduce((sum, row) => sum + row.output_tokens, 0)).toBe(told.output);
    expect((await exported('format=jsonl')).text).toBe(first.text);

    const csv = await exported('format=csv');
    const [header = '', ...lines] = csv.text.trimEnd().split('\r\n');
    const column = header.split(',').indexOf('output_tokens');
    expect(lines.map((line) => Number(line.split(',')[column]))).toEqual(rows.map((row) => row.output_tokens));
    expect(csv.type).toContain('text/csv');

    const rest = await exported(`format=jsonl&cursor=${rows[1]?.cursor}`);
    expect(first.text.endsWith(rest.text)).toBe(true);
    expect(rest.text.trim().split('\n')).toHaveLength(2);
    expect((await exported(`format=jsonl&cursor=${first.cursor}`)).text).toBe('');
    expect((await exported(`format=jsonl&end_time=${now() - 600}`)).text).toBe('');
    expect(await status('GET', '/usage/export?format=xml')).toMatchObject({ status: 400, error: { param: 'format' } });
  });

  test('an outbox that is fed twice is counted once', async () => {
    const { ledger } = rig;
    const { usage } = rig.ports;
    const entries = await ledger.outbox(10);
    await usage.append(entries);
    await usage.append(entries);
    const stored = await rig.entries();
    expect(stored).toEqual(entries);
    expect(stored).toHaveLength(4);
    expect(await ledger.outbox(10)).toEqual([]);
  });
});
