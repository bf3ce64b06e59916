// Several pools on one machine behind a gateway: a killed one comes back while the others serve, one that dies at once is given up alone,
// and all are replaced under load without a failed request. Real processes over the simulated runner, under the real supervisors.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PoolFleet } from '../bin/poolFleet.ts';
import type { PoolPlan } from '../bin/poolPlans.ts';
import type { PoolsMessage } from '../gateway/processProtocol.ts';
import { Supervisor } from '../pool/supervisor.ts';
import { eventually } from './support/eventually.ts';
import { FleetGateway } from './support/fleetGateway.ts';
import { type PagedPoolOptions, pagedPoolOptions } from './support/pagedPool.ts';

let folder = '';
let fleet: PoolFleet;
let gateway: FleetGateway;
const said: string[] = [];
const supervisors = new Map<string, Supervisor>();
const failures: Error[] = [];
let plans: PoolPlan[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fleet-'));
  said.length = 0;
  failures.length = 0;
});
afterEach(async () => {
  await gateway.close();
  await fleet.stop();
  supervisors.clear();
  rmSync(folder, { recursive: true, force: true });
});

const RESTART = { initialDelayMs: 10, maxDelayMs: 40, maxDeaths: 3, windowMs: 60_000 };

/** `options` by pool. */
async function start(options: Record<string, PagedPoolOptions>, leastLifeMs?: number): Promise<void> {
  const plan = (id: string): PoolPlan => ({
    ...{
      id,
      script: 'pool/main.ts',
      models: ['bytes'],
      adapterName: '',
      env: {},
      memoryBytes: id.startsWith('small') ? 1 : null,
    },
    section: () => {
      throw new Error('the test writes its own');
    },
  });
  fleet = new PoolFleet(
    {
      supervise: ({ poolId, keyId, secretHex }, { id }, onMemory) => {
        const paged = pagedPoolOptions(folder, Buffer.from(secretHex, 'hex'), options[id] ?? {});
        const section = (port: number | null) => ({
          ...Object(paged.section(port)),
          ...{ poolId, keys: [{ id: keyId, secretHex }], journal: { folder: journalOf(poolId) } },
        });
        const supervisor = new Supervisor({ ...paged, section, onMemory, restart: RESTART });
        supervisors.set(poolId, supervisor);
        return supervisor;
      },
      journalOf,
      announce: async (pools) => gateway.host.setPools?.(entriesOf(pools)),
      say: (line) => said.push(line),
      onFailed: (error) => failures.push(error),
    },
    leastLifeMs,
  );
  await fleet.start(Object.keys(options).map(plan));
  gateway = await FleetGateway.start(entriesOf(fleet.entries));
  plans = Object.keys(options).map(plan);
  await eventually('all are ready', async () => (await gateway.readyPools()) === plans.length);
}

const journalOf = (poolId: string) => join(folder, 'journals', poolId);
const entriesOf = (pools: PoolsMessage['pools']) =>
  pools.map(({ models = [], retired = false, ...pool }) => ({ ...pool, models, retired }));
const pidOf = (poolId: string) => supervisors.get(poolId)?.pid ?? 0;

/** Clients that ask one request after another until told to stop; answers what went wrong. */
function load(clients: number): () => Promise<{ answered: number; wrong: string[] }> {
  let stopped = false;
  let answered = 0;
  const wrong: string[] = [];
  const asking = Array.from({ length: clients }, async (_, i) => {
    for (let n = 0; !stopped; n++) {
      const answer = await gateway.complete(`client ${i} asks for the ${n}th time`, 12).catch(String);
      if (typeof answer === 'string') wrong.push(answer);
      else if (answer.status !== 200) wrong.push(`${answer.status} ${answer.text}`);
      else answered += 1;
    }
  });
  return async () => {
    stopped = true;
    await Promise.all(asking);
    return { answered, wrong };
  };
}

describe('several pools', () => {
  it.each([{ ids: ['a'] }, { ids: ['a', 'b'] }])(
    '$ids are replaced one after another under load, without a failed request',
    async ({ ids }) => {
      await start(Object.fromEntries(ids.map((id) => [id, { model: { stepMs: 5 } }])));
      const before = ids.map(pidOf);
      const end = load(8);
      await sleep(500);
      await fleet.replaceAll(plans);
      await sleep(500);
      const { answered, wrong } = await end();
      expect(wrong).toEqual([]);
      expect(answered).toBeGreaterThan(20);
      expect(fleet.entries.map(({ id, retired }) => [id, retired])).toEqual(ids.map((id) => [`${id}~`, false]));
      for (const pid of before) expect(() => process.kill(pid, 0)).toThrow();
    },
  );

  it('serve on while one that was killed comes back on its port', async () => {
    await start({ a: {}, b: {} });
    const pid = pidOf('a');
    const { port } = supervisors.get('a')!;
    process.kill(pid, 'SIGKILL');
    await eventually('the death is known', async () => (await gateway.readyPools()) === 1);
    for (let i = 0; i < 5; i++) expect((await gateway.complete('who is there?', 4)).status).toBe(200);
    await eventually('back', async () => (await gateway.readyPools()) === 2);
    expect(pidOf('a')).not.toBe(pid);
    expect(supervisors.get('a')!.port).toBe(port);
  });

  it('serve on when one dies again and again and is given up; only the last to go is the end', async () => {
    await start({ a: {}, b: {} });
    const kill = async (pool: string) => {
      const given = () => said.some((line) => line.startsWith(`The pool ${pool} is given up`));
      for (let i = 0; i < 200 && !given(); i++) {
        try {
          process.kill(pidOf(pool), 'SIGKILL');
        } catch {} // between two lives
        await sleep(50);
      }
      expect(given()).toBe(true);
    };
    await kill('a');
    expect(failures).toEqual([]);
    await eventually('the loss is known', async () => (await gateway.readyPools()) === 1);
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
    await kill('b');
    expect(failures).toHaveLength(1);
  });

  it('are replaced when they outgrow their memory, though not at once', async () => {
    await start({ small: {} }, 1500);
    const pid = pidOf('small');
    await eventually('replaced', async () => fleet.entries.map(({ id }) => id).join() === 'small~');
    expect(said[0]).toMatch(/^The pool small takes \d+ MB, more than it may/);
    expect(() => process.kill(pid, 0)).toThrow();
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
    await eventually('the names take turns', async () => fleet.entries.map(({ id }) => id).join() === 'small');
  });

  it('keep the old process where the new one can not start', async () => {
    const options: Record<string, PagedPoolOptions> = { a: {} };
    await start(options);
    const pid = pidOf('a');
    options.a = { model: { refuse: 'this file is not a model' } };
    await fleet.replaceAll(plans);
    expect(said).toEqual([expect.stringContaining('this file is not a model')]);
    expect(fleet.entries.map(({ id }) => id)).toEqual(['a']);
    expect(() => process.kill(pid, 0)).not.toThrow();
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
  });

  it('gain one and lose one', async () => {
    await start({ a: {}, b: {} });
    const [a] = plans;
    await fleet.replaceAll([{ ...a!, id: 'c' }, a!]);
    expect(fleet.entries.map(({ id }) => id)).toEqual(['a~', 'c']);
    await eventually('both ready', async () => (await gateway.readyPools()) === 2);
  });
});
