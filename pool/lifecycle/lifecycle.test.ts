// Sleep and wake as a gateway sees them, told by real pool processes over the simulated runner: one wake for a burst, nothing lost of the
// cache, the least recently used making room, a device that is lost under a request.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { type PagedPool, type PagedPoolOptions, startPagedPool } from '../../test/support/pagedPool.ts';
import { askPool, collect, inferenceContext, ofType, type PoolAnswer } from '../../test/support/signedPoolClient.ts';
import { until } from '../../test/support/tierRig.ts';
import { poolStatus, receiptsAnswer } from '../wire/events.ts';

const pools: PagedPool[] = [];
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
});

async function start(options: PagedPoolOptions = {}): Promise<PagedPool> {
  const pool = await startPagedPool(options);
  pools.push(pool);
  return pool;
}

const PROMPT = 'a prompt of more than two blocks, whose blocks are kept somewhere';

function complete(pool: PagedPool, over: object = {}, signal?: AbortSignal): Promise<PoolAnswer> {
  const body = { model: 'bytes', prompt: PROMPT, max_tokens: 4, seed: 1, logit_bias: { 257: -100 }, ...over };
  const context = { ...inferenceContext(), cacheScope: 'scope-a' };
  return askPool(pool.address, { path: '/v1/completions', body, context, ...(signal && { signal }) });
}

async function answered(answer: PoolAnswer | Promise<PoolAnswer>) {
  const events = await collect(await answer);
  return {
    ids: ofType(events, 'delta').flatMap(({ ids }) => ids),
    cached: ofType(events, 'done')[0]?.receipt.cached_tokens,
    error: ofType(events, 'error')[0]?.error,
  };
}

const move = (pool: PagedPool, to: 'sleep' | 'wake' | 'drain', body: object = {}) =>
  askPool(pool.address, { path: `/pool/${to}`, ...(to !== 'drain' && { body }) });

async function statusOf(pool: PagedPool) {
  return poolStatus.parse((await askPool(pool.address, { method: 'GET', path: '/pool/status' })).json);
}

const stateOf = async (pool: PagedPool, model = 'bytes') =>
  (await statusOf(pool)).models.find(({ id }) => id === model)?.state;

/** Transitions of the log, as `from→to`. */
const transitions = (pool: PagedPool, engine = 'bytes') =>
  pool.log.flatMap((line) => {
    if (!line.includes('"engine_state"')) return [];
    const { from, to, engine: whose }: Record<string, string> = JSON.parse(line);
    return whose === engine ? `${from}→${to}` : [];
  });

const count = (pool: PagedPool, transition: string, engine?: string) =>
  transitions(pool, engine).filter((one) => one === transition).length;

describe('a pool that sleeps', () => {
  it('by a signed call gives its memory back and says so; a request wakes it, with the same bits and its cache', async () => {
    const pool = await start();
    const before = await answered(complete(pool));
    const asleep = await move(pool, 'sleep');
    expect(asleep).toMatchObject({ status: 200, json: { state: 'asleep', models: [{ state: 'asleep' }] } });
    expect((await fetch(`${pool.address.url}/health/ready`)).status).toBe(200); // whoever asks it wakes it
    const metrics = async () => (await fetch(`${pool.address.url}/metrics`)).text();
    expect(await metrics()).toContain('hearth_pool_state{model="bytes",state="asleep"} 1');
    expect(await metrics()).toContain('hearth_pool_device_bytes{model="bytes"} 0');
    expect(await answered(complete(pool))).toEqual({ ...before, cached: 64 });
    expect(await stateOf(pool)).toBe('warm');
    expect(await metrics()).toContain('hearth_pool_wake_seconds_count 1');
    await move(pool, 'sleep');
    expect(await move(pool, 'wake')).toMatchObject({ status: 200, json: { state: 'warm' } });
    expect(transitions(pool)).toEqual([
      ...['cold→loading', 'loading→warm', 'warm→asleep', 'asleep→waking'],
      ...['waking→warm', 'warm→asleep', 'asleep→waking', 'waking→warm'],
    ]);
  });

  it('is woken once by 200 requests: those that find a seat are answered, the others told at once when to come again', async () => {
    const pool = await start({ model: { wakeMs: 3000 }, section: { lifecycle: { wakeWaiting: 120 } } });
    await move(pool, 'sleep');
    const began = Date.now();
    const answers = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const answer = await complete(pool);
        const ms = Date.now() - began;
        return { answer, ms, ids: answer.status === 200 ? (await answered(answer)).ids : [] };
      }),
    );
    const served = answers.filter(({ answer }) => answer.status === 200);
    const refused = answers.filter(({ answer }) => answer.status === 503);
    expect([served.length, refused.length]).toEqual([120, 80]);
    expect(new Set(served.map(({ ids }) => ids.join())).size).toBe(1);
    expect(served[0]?.ids).toHaveLength(4);
    for (const { answer } of refused) {
      expect(answer.json).toMatchObject({ error: { code: 'no_pool_ready' } });
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    }
    // Who is refused learns it before the wake is over.
    expect(Math.max(...refused.map(({ ms }) => ms))).toBeLessThan(Math.min(...served.map(({ ms }) => ms)));
    expect(count(pool, 'asleep→waking')).toBe(1);
  });

  it('lets nobody wait longer than it may, and computes nothing for who left', async () => {
    const pool = await start({ model: { wakeMs: 1000 }, section: { lifecycle: { wakeWaitMs: 200 } } });
    await move(pool, 'sleep');
    const leave = new AbortController();
    const left = complete(pool, { max_tokens: 300 }, leave.signal).catch(() => 'left');
    const began = Date.now();
    const late = complete(pool);
    await sleep(50);
    leave.abort();
    expect(await left).toBe('left');
    expect(await late).toMatchObject({ status: 503, json: { error: { code: 'no_pool_ready' } } });
    expect(Date.now() - began).toBeLessThan(900);
    await until(() => count(pool, 'waking→warm') === 1, 'awake');
    expect((await statusOf(pool)).running).toBe(0);
    expect((await answered(complete(pool))).ids).toHaveLength(4);
  });

  it('says of a request that waits for it that it runs, until it is begun or refused', async () => {
    const pool = await start({ model: { wakeMs: 1500 }, section: { lifecycle: { wakeWaiting: 1 } } });
    await move(pool, 'sleep');
    const [context, refused] = [inferenceContext(), inferenceContext()];
    const ask = (of: object) => {
      const body = { model: 'bytes', prompt: PROMPT, max_tokens: 4, seed: 1, logit_bias: { 257: -100 } };
      return askPool(pool.address, { path: '/v1/completions', body, context: of });
    };
    const receiptOf = async ({ requestId }: { requestId?: string }) => {
      const path = `/pool/receipts?request_id=${requestId}`;
      const { status, json } = await askPool(pool.address, { method: 'GET', path });
      return status === 200 ? receiptsAnswer.parse(json).receipts[0] : status;
    };
    const waiting = ask(context);
    await eventually('it has come', async () => (await receiptOf(context)) !== 404);
    expect(await receiptOf(context)).toMatchObject({
      ...{ request_id: context.requestId, pool_id: 'pool-1', tenant: 'tenant-a', model: 'bytes' },
      ...{ outcome: 'running', prompt_tokens: 0, choices: [] },
    });
    expect(await stateOf(pool)).toBe('waking');
    expect((await askPool(pool.address, { method: 'GET', path: '/pool/receipts' })).json).toMatchObject({
      receipts: [],
    });
    expect((await ask(refused)).status).toBe(503);
    expect(await receiptOf(refused)).toBe(404);
    expect((await answered(waiting)).ids).toHaveLength(4);
    expect(await receiptOf(context)).toMatchObject({ outcome: 'completed', choices: [4] });
  });

  it('falls asleep by itself when nobody asks, and not while it has a request', async () => {
    const pool = await start({ model: { stepMs: 20 }, section: { lifecycle: { sleepAfterMs: 300 } } });
    const running = complete(pool, { max_tokens: 60 });
    expect((await answered(running)).ids).toHaveLength(60); // for longer than it takes to fall asleep
    expect(count(pool, 'warm→asleep')).toBe(0);
    await until(() => count(pool, 'warm→asleep') === 1, 'asleep');
    expect((await answered(complete(pool))).ids).toHaveLength(4);
  });

  it('right after its last client left in the middle of a step, does so when the step is over', async () => {
    const pool = await start({ model: { stepMs: 300 } });
    const leave = new AbortController();
    const answer = await complete(pool, { max_tokens: 50 }, leave.signal);
    await answer.events.next();
    leave.abort();
    let slept = await move(pool, 'sleep');
    for (let i = 0; i < 100 && slept.status === 409; i++) slept = await move(pool, 'sleep'); // until it knows that the client left
    expect(slept).toMatchObject({ status: 200, json: { state: 'asleep' } });
    expect((await answered(complete(pool))).ids).toHaveLength(4);
  });

  it('is refused what does not go with its state', async () => {
    const pool = await start({ model: { stepMs: 30 } });
    const running = await complete(pool, { max_tokens: 40 });
    expect(await move(pool, 'sleep')).toMatchObject({ status: 409, json: { error: { code: 'wrong_state' } } });
    expect((await answered(running)).ids).toHaveLength(40);
    expect(await move(pool, 'sleep', { model: 'absent' })).toMatchObject({ status: 404 });
    expect(await move(pool, 'sleep', { modell: 'bytes' })).toMatchObject({ status: 400 });
    await move(pool, 'drain');
    expect(await move(pool, 'sleep')).toMatchObject({ status: 409 });
    expect(await move(pool, 'wake')).toMatchObject({ status: 409 });
    expect((await statusOf(pool)).state).toBe('draining');
  });

  it('that drains refuses who waits', async () => {
    const pool = await start({ model: { wakeMs: 2000 } });
    await move(pool, 'sleep');
    const waiting = complete(pool);
    await until(() => count(pool, 'asleep→waking') === 1, 'waking');
    await move(pool, 'drain');
    expect(await waiting).toMatchObject({ status: 503, json: { error: { code: 'no_pool_ready' } } });
  });
});

describe('models that share device memory', () => {
  const models = ['a', 'b', 'c'].map((id) => ({ id, kvBlocks: 64, file: { stepMs: 5, weightBytes: 34_464 } }));
  const section = { lifecycle: { deviceBytes: 220_000 } }; // two of 100,000 bytes each

  it('take turns: the least recently used sleeps, and each still answers as before', async () => {
    const pool = await start({ models, section });
    const states = async () => (await statusOf(pool)).models.map(({ state }) => state);
    expect(await states()).toEqual(['asleep', 'warm', 'warm']); // all have been loaded
    const first = await answered(complete(pool, { model: 'a' })); // in b's place
    expect(await states()).toEqual(['warm', 'asleep', 'warm']);
    await answered(complete(pool, { model: 'c' }));
    await answered(complete(pool, { model: 'b' })); // a was used before c
    expect(await states()).toEqual(['asleep', 'warm', 'warm']);
    expect(await answered(complete(pool, { model: 'a' }))).toEqual({ ...first, cached: 64 });
  });

  it('wait for a busy one no longer than its requests last; then it comes back for those that it kept waiting', async () => {
    const pool = await start({ models, section: { lifecycle: { deviceBytes: 120_000 } } });
    const long = await complete(pool, { model: 'c', max_tokens: 60 });
    const other = answered(complete(pool, { model: 'a' }));
    await sleep(50);
    const late = answered(complete(pool, { model: 'c' })); // c has promised its memory to a
    expect((await answered(long)).ids).toHaveLength(60);
    expect((await other).ids).toHaveLength(4);
    expect((await late).ids).toHaveLength(4);
    expect(count(pool, 'asleep→waking', 'c')).toBe(1);
  });

  it('take the memory of one whose device is lost, and give it back in turn', async () => {
    const breaks = models.map((model) => ({
      ...model,
      file: { ...model.file, ...(model.id === 'b' && { throwAtStep: 30 }) },
    }));
    const pool = await start({ models: breaks, section }); // two of three have room: b and c
    const lost = await complete(pool, { model: 'b', max_tokens: 100 });
    const busy = await complete(pool, { model: 'c', max_tokens: 200 });
    let busyEnded = false;
    const busyEnd = answered(busy).then((answer) => {
      busyEnded = true;
      return answer;
    });
    const waits = answered(complete(pool, { model: 'a' }));
    expect((await answered(lost)).error).toMatchObject({ status: 503 });
    expect((await waits).ids).toHaveLength(4);
    expect(busyEnded).toBe(false);
    expect((await answered(complete(pool, { model: 'b' }))).ids).toHaveLength(4);
    expect((await busyEnd).ids).toHaveLength(200);
  });

  it('are refused where one alone takes more than there is', async () => {
    await expect(start({ models, section: { lifecycle: { deviceBytes: 99_999 } } })).rejects.toThrow(
      /a takes 100000 bytes of device memory, and pool\.deviceBytes is 99999/,
    );
  });
});

describe('a pool whose GPU is lost', () => {
  it('ends what runs with an error to retry, and goes on in the same process', async () => {
    const pool = await start({ model: { stepMs: 10, throwAtStep: 12 } });
    const pid = pool.supervisor.pid;
    const lost = await answered(complete(pool, { max_tokens: 60 }));
    expect(lost.error).toMatchObject({
      ...{ status: 503, code: 'no_pool_ready', resumable: true, retry_after_ms: expect.any(Number) },
    });
    expect((await answered(complete(pool, { max_tokens: 60 }))).ids).toHaveLength(60);
    expect(pool.supervisor.pid).toBe(pid);
    expect(transitions(pool).slice(2)).toEqual(['warm→loading', 'loading→warm']);
  });

  it('again and again ends, and leaves it to its supervisor', async () => {
    const pool = await start({ model: { throwEvery: 8 } });
    const pid = pool.supervisor.pid;
    for (let i = 0; i < 4; i++) expect((await answered(complete(pool, { max_tokens: 60 }))).error?.status).toBe(503);
    await until(() => pool.supervisor.pid !== pid, 'a new process');
  });

  it('finds out by a token of its own while nobody asks', async () => {
    const pool = await start({ model: { throwAtStep: 4 }, section: { lifecycle: { probeMs: 200 } } });
    await until(() => count(pool, 'warm→loading') === 1, 'lost'); // steps 1 and 2 were the warm-up's
    expect((await answered(complete(pool))).ids).toHaveLength(4);
  });
});
