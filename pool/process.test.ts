// The life of a pool process, told by real processes under the real supervisor: streams, leavers, kill -9, a crash of the engine, a drain.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type PagedPool, type PagedPoolOptions, pagedPoolOptions, startPagedPool } from '../test/support/pagedPool.ts';
import { askPool, collect, inferenceContext, ofType } from '../test/support/signedPoolClient.ts';
import { type PoolEvent, poolStatus, type Receipt, receiptsAnswer } from './wire/events.ts';

const pools: PagedPool[] = [];
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.close();
});

async function start(options: PagedPoolOptions = {}): Promise<PagedPool> {
  const pool = await startPagedPool(options);
  pools.push(pool);
  return pool;
}

const NEVER_EOS = { logit_bias: { 257: -100 } };

function generate(pool: PagedPool, maxTokens: number, context = inferenceContext(), signal?: AbortSignal) {
  const body = { model: 'bytes', prompt: 'abc', max_tokens: maxTokens, seed: 1, ...NEVER_EOS };
  return askPool(pool.address, { path: '/v1/completions', body, context, ...(signal && { signal }) });
}

async function receiptOf(pool: PagedPool, requestId: string | undefined): Promise<Receipt | undefined> {
  const answer = await askPool(pool.address, { method: 'GET', path: `/pool/receipts?request_id=${requestId}` });
  return answer.status === 404 ? undefined : receiptsAnswer.parse(answer.json).receipts[0];
}

async function statusOf(pool: PagedPool) {
  return poolStatus.parse((await askPool(pool.address, { method: 'GET', path: '/pool/status' })).json);
}

async function eventually<T>(what: string, probe: () => Promise<T | undefined | false>): Promise<T> {
  for (let i = 0; i < 200; i++) {
    const found = await probe().catch(() => undefined);
    if (found) return found;
    await sleep(50);
  }
  throw new Error(`never came: ${what}`);
}

/** Reads until a choice has `count` ids; tells how many it saw. */
async function readIds(events: AsyncGenerator<PoolEvent>, count: number): Promise<number> {
  let seen = 0;
  while (seen < count) {
    const { value, done } = await events.next();
    if (done) throw new Error('the stream ended early');
    if (value.type === 'delta') seen += value.ids.length;
  }
  return seen;
}

describe('a stream', () => {
  it('brings each token while the next is computed, not all at the end', async () => {
    const pool = await start({ model: { stepMs: 30 } });
    const answer = await generate(pool, 20);
    await readIds(answer.events, 2);
    const status = await statusOf(pool);
    expect(status.running).toBe(1);
    expect(ofType(await collect(answer), 'done')[0]?.receipt.choices).toEqual([20]);
  });

  it('whose reader leaves is cancelled at once, its blocks freed, and what was released is on the receipt', async () => {
    const pool = await start({ model: { stepMs: 60 } }); // by itself it would run for longer than anything here waits
    const context = inferenceContext();
    const leave = new AbortController();
    const answer = await generate(pool, 300, context, leave.signal);
    const seen = await readIds(answer.events, 3);
    leave.abort();
    const receipt = await eventually('the receipt', async () => {
      const found = await receiptOf(pool, context.requestId);
      return found?.outcome === 'cancelled' && found;
    });
    expect(receipt.choices[0]).toBeGreaterThanOrEqual(seen);
    expect(receipt.choices[0]).toBeLessThan(60);
    const free = await eventually('free blocks', async () => {
      const status = await statusOf(pool);
      return status.running === 0 && status.blocks_free === status.blocks_total;
    });
    expect(free).toBe(true);
    expect((await receiptOf(pool, context.requestId))?.choices).toEqual(receipt.choices);
  });

  it('ends at its deadline with an error event that carries the receipt', async () => {
    const pool = await start({ model: { stepMs: 20 } });
    const deadlineMs = Date.now() + 400;
    const events = await collect(await generate(pool, 300, { ...inferenceContext(), deadlineMs }));
    expect(Date.now()).toBeLessThan(deadlineMs + 300);
    const error = ofType(events, 'error')[0];
    expect(events.at(-1)).toBe(error);
    const released = ofType(events, 'delta').flatMap((delta) => delta.ids).length;
    expect(error).toMatchObject({
      error: { code: 'deadline_exceeded' },
      receipt: { outcome: 'cancelled', choices: [released] },
    });
    expect(error?.error).not.toHaveProperty('resumable');
  });

  it('is the same for eight at once as for each alone', async () => {
    const pool = await start();
    const ask = (i: number) =>
      askPool(pool.address, {
        path: '/v1/completions',
        body: { model: 'bytes', prompt: `prompt number ${i}`, max_tokens: 40, seed: i, ...NEVER_EOS },
        context: inferenceContext(),
      }).then(collect);
    const ids = (events: PoolEvent[]) => ofType(events, 'delta').flatMap((delta) => delta.ids);
    const together = await Promise.all(Array.from({ length: 8 }, (_, i) => ask(i)));
    for (const [i, events] of together.entries()) expect(ids(await ask(i))).toEqual(ids(events));
  });
});

describe('a pool that dies', () => {
  it('by kill -9 comes back on its port, and bills exactly what left it or was about to', async () => {
    const pool = await start({ model: { stepMs: 10 } });
    const contexts = [inferenceContext(), inferenceContext()];
    const answers = await Promise.all(contexts.map((context) => generate(pool, 300, context)));
    const finished = inferenceContext();
    await collect(await generate(pool, 2, finished));
    const seen = await Promise.all(answers.map((answer) => readIds(answer.events, 10)));
    process.kill(pool.supervisor.pid ?? 0, 'SIGKILL');
    const rest = await Promise.allSettled(
      answers.map(async (answer, i) => {
        for await (const event of answer.events) if (event.type === 'delta') seen[i]! += event.ids.length;
      }),
    );
    expect(rest.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    const port = pool.supervisor.port;
    await eventually('a new process', async () => (await statusOf(pool)).state === 'warm');
    expect(pool.supervisor.port).toBe(port);
    for (const [i, { requestId }] of contexts.entries()) {
      const receipt = await receiptOf(pool, requestId);
      expect(receipt).toMatchObject({ outcome: 'lost', prompt_tokens: 3 });
      expect(receipt?.choices[0]).toBeGreaterThanOrEqual(seen[i]!);
      expect(receipt?.choices[0]).toBeLessThanOrEqual(seen[i]! + 2);
    }
    expect(await receiptOf(pool, finished.requestId)).toMatchObject({ outcome: 'completed', choices: [2] });
  });

  it('as its engine thread crashes ends its requests with an error event, exits, and is started again', async () => {
    const pool = await start({ model: { stepMs: 10, crashAtStep: 12 } });
    const context = inferenceContext();
    const first = pool.supervisor.pid;
    const events = await collect(await generate(pool, 300, context));
    const error = ofType(events, 'error')[0];
    expect(events.at(-1)).toBe(error);
    const released = ofType(events, 'delta').flatMap((delta) => delta.ids).length;
    expect(error).toMatchObject({ error: { resumable: true }, receipt: { outcome: 'failed', choices: [released] } });
    await eventually(
      'a new process',
      async () => (await statusOf(pool)).state === 'warm' && pool.supervisor.pid !== first,
    );
    expect(await receiptOf(pool, context.requestId)).toMatchObject({ outcome: 'failed', choices: [released] });
  });
});

describe('a pool that is asked to stop', () => {
  it('lets what runs finish, takes nothing new, and exits with 0', async () => {
    const pool = await start({ model: { stepMs: 20 } });
    const running = await generate(pool, 30);
    await readIds(running.events, 2);
    const stopped = pool.supervisor.stop();
    await eventually('the drain', async () => (await fetch(`${pool.address.url}/health/ready`)).status === 503);
    expect(await generate(pool, 3)).toMatchObject({ status: 503, json: { error: { resumable: true } } });
    expect(ofType(await collect(running), 'done')[0]?.receipt.choices).toEqual([30]);
    await stopped;
    expect(pool.log.some((line) => line.includes('"stopped"'))).toBe(true);
  });

  it('ends what is longer than the drain bound with an error event', async () => {
    const pool = await start({ model: { stepMs: 20 }, section: { drainMs: 200 } });
    const running = await generate(pool, 300);
    await readIds(running.events, 2);
    const stopped = pool.supervisor.stop();
    expect(ofType(await collect(running), 'error')[0]).toMatchObject({
      error: { status: 503, resumable: true },
      receipt: { outcome: 'cancelled' },
    });
    await stopped;
  });

  it('over HTTP drains, but stays for its receipts', async () => {
    const pool = await start();
    const context = inferenceContext();
    await collect(await generate(pool, 3, context));
    const drained = await askPool(pool.address, { path: '/pool/drain' });
    expect(poolStatus.parse(drained.json).state).toBe('draining');
    expect((await generate(pool, 3)).status).toBe(503);
    expect((await receiptOf(pool, context.requestId))?.outcome).toBe('completed');
  });
});

describe('a pool that can’t start', () => {
  it.each([
    ['its model can’t be opened', { model: { refuse: 'this file is not a model' } }, 'this file is not a model'],
    ['its section is wrong', { section: { poolId: '' } }, 'poolId'],
    ['a host beyond loopback has no TLS', { section: { host: '0.0.0.0' } }, 'TLS'],
  ])('because %s says why, and names no secret', async (_, options, words) => {
    const failed = await startPagedPool(options).then(
      () => 'it started',
      (error: Error) => error.message,
    );
    expect(failed).toContain(words);
    expect(failed).not.toMatch(/[0-9a-f]{64}/);
  });

  it('because its port is taken says so', async () => {
    const pool = await start();
    const failed = await startPagedPool({ section: { port: pool.supervisor.port } }).catch(
      (error: Error) => error.message,
    );
    expect(failed).toContain(`Port ${pool.supervisor.port} of 127.0.0.1 is in use`);
  });
});

it('a pool never outlives its supervisor: it ends when stdin does', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pool-'));
  try {
    const { command, args, env, section } = pagedPoolOptions(folder, Buffer.alloc(32, 1), {});
    const child = spawn(command, [...args], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    const ready = Promise.withResolvers<void>();
    createInterface({ input: child.stdout }).on('line', (line) => line.includes('"ready"') && ready.resolve());
    child.stdin.write(`${JSON.stringify(section(null))}\n`);
    await ready.promise;
    child.stdin.end();
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

it('logs hold no prompt, no completion and no key', async () => {
  const pool = await start({ model: { stepMs: 10, throwAtStep: 40 } });
  const body = { model: 'bytes', prompt: 'a very secret prompt', max_tokens: 300, seed: 1, ...NEVER_EOS };
  const events = await collect(
    await askPool(pool.address, { path: '/v1/completions', body, context: inferenceContext() }),
  );
  await eventually('the log of the death', async () => pool.log.some((line) => line.includes('device_lost')));
  const log = pool.log.join('\n');
  const completion = ofType(events, 'delta')
    .map((delta) => delta.text)
    .join('');
  expect(log).not.toContain('secret prompt');
  expect(log).not.toContain(completion.slice(0, 12));
  expect(log).not.toContain(Buffer.from(pool.address.secret).toString('hex'));
});
