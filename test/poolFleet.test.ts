// Several pools on one machine behind a gateway: a killed one comes back while the others serve, one that dies at once is given up alone,
// and all are replaced under load without a failed request. Real processes over the simulated runner, under the real supervisors.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PoolsMessage } from '../gateway/processProtocol.ts';
import type { RestartPolicy } from '../pool/restartPolicy.ts';
import { poolStatus } from '../pool/wire/events.ts';
import { eventually } from './support/eventually.ts';
import { FleetGateway } from './support/fleetGateway.ts';
import { ADMIN_KEY } from './support/gatewayClient.ts';
import { PagedFleet } from './support/pagedFleet.ts';
import type { PagedPoolOptions } from './support/pagedPool.ts';
import { askPool } from './support/signedPoolClient.ts';

let folder = '';
let paged: PagedFleet;
let gateway: FleetGateway;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fleet-'));
});
afterEach(async () => {
  await gateway.close();
  await paged.fleet.stop();
  rmSync(folder, { recursive: true, force: true });
});

const RESTART: RestartPolicy = { initialDelayMs: 10, maxDelayMs: 40, maxDeaths: 3, windowMs: 60_000 };

/** `pools` by name. */
async function start(
  pools: Record<string, PagedPoolOptions>,
  { leastLifeMs, restart = RESTART }: { leastLifeMs?: number; restart?: RestartPolicy } = {},
): Promise<void> {
  paged = await PagedFleet.start({
    ...{ folder, pools, supervisor: { restart } },
    announce: async (list) => gateway.host.setPools?.(entriesOf(list)),
    ...(leastLifeMs !== undefined && { leastLifeMs }),
  });
  gateway = await FleetGateway.start(entriesOf(paged.fleet.entries));
  await eventually('all are ready', async () => (await gateway.readyPools()) === paged.plans.length);
}

const entriesOf = (pools: PoolsMessage['pools']) =>
  pools.map(({ models = [], retired = false, ...pool }) => ({ ...pool, models, retired }));

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

/** Requests at a pool, by its own word; 0 where it does not answer. */
async function runningAt(id: string): Promise<number> {
  const address = paged.serving.find(({ poolId }) => poolId === id);
  if (!address) return 0;
  const asked = await askPool(address, { method: 'GET', path: '/pool/status' }).catch(() => null);
  return asked?.status === 200 ? poolStatus.parse(asked.json).running : 0;
}

async function reroutes(): Promise<number> {
  const text = await (await gateway.request('GET', '/metrics', { key: ADMIN_KEY })).text();
  const counts = [...text.matchAll(/^hearth_gateway_reroutes_total\{.*\} (\d+)$/gm)];
  return counts.reduce((sum, [, n]) => sum + Number(n), 0);
}

describe('several pools', () => {
  it.each([{ ids: ['a'] }, { ids: ['a', 'b'] }])(
    '$ids are replaced one after another under load, without a failed request',
    async ({ ids }) => {
      await start(Object.fromEntries(ids.map((id) => [id, { model: { stepMs: 5 } }])));
      const before = ids.map((id) => paged.pidOf(id));
      const end = load(8);
      await sleep(500);
      await paged.fleet.replaceAll(paged.plans);
      await sleep(500);
      const { answered, wrong } = await end();
      expect(wrong).toEqual([]);
      expect(answered).toBeGreaterThan(20);
      expect(paged.fleet.entries.map(({ id, retired }) => [id, retired])).toEqual(ids.map((id) => [`${id}~`, false]));
      for (const pid of before) expect(() => process.kill(pid, 0)).toThrow();
    },
  );

  it('serve every request while one is killed again and again, each time with requests of its own', async () => {
    await start(
      { a: { model: { stepMs: 5 } }, b: { model: { stepMs: 5 } } },
      { restart: { ...RESTART, maxDeaths: 100 } },
    );
    const end = load(8);
    const killed = paged.supervisors.get('a')!;
    const { port } = killed;
    for (let kill = 1; kill <= 4; kill++) {
      await eventually('it has requests', async () => (await runningAt('a')) > 0);
      const pid = paged.pidOf('a');
      process.kill(pid, 'SIGKILL');
      await eventually('another lives', async () => ![0, pid].includes(paged.pidOf('a')));
    }
    await eventually('it has requests again', async () => (await runningAt('a')) > 0);
    const { answered, wrong } = await end();
    expect(wrong).toEqual([]);
    expect(answered).toBeGreaterThan(40);
    expect(killed.port).toBe(port);
    expect(await reroutes(), 'requests were under way when it was killed').toBeGreaterThan(0);
  });

  it('serve on when one dies again and again and is given up; only the last to go is the end', async () => {
    await start({ a: {}, b: {} });
    const kill = async (pool: string) => {
      const given = () => paged.said.some((line) => line.startsWith(`The pool ${pool} is given up`));
      for (let i = 0; i < 200 && !given(); i++) {
        try {
          process.kill(paged.pidOf(pool), 'SIGKILL');
        } catch {} // between two lives
        await sleep(50);
      }
      expect(given()).toBe(true);
    };
    await kill('a');
    expect(paged.failures).toEqual([]);
    await eventually('the loss is known', async () => (await gateway.readyPools()) === 1);
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
    await kill('b');
    expect(paged.failures).toHaveLength(1);
  });

  it('are replaced when they outgrow their memory, though not at once', async () => {
    await start({ small: {} }, { leastLifeMs: 1500 });
    const pid = paged.pidOf('small');
    await eventually('replaced', async () => paged.fleet.entries.map(({ id }) => id).join() === 'small~');
    expect(paged.said[0]).toMatch(/^The pool small takes \d+ MB, more than it may/);
    expect(() => process.kill(pid, 0)).toThrow();
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
    await eventually('the names take turns', async () => paged.fleet.entries.map(({ id }) => id).join() === 'small');
  });

  it('keep the old process where the new one can not start', async () => {
    const options: Record<string, PagedPoolOptions> = { a: {} };
    await start(options);
    const pid = paged.pidOf('a');
    options.a = { model: { refuse: 'this file is not a model' } };
    await paged.fleet.replaceAll(paged.plans);
    expect(paged.said).toEqual([expect.stringContaining('this file is not a model')]);
    expect(paged.fleet.entries.map(({ id }) => id)).toEqual(['a']);
    expect(() => process.kill(pid, 0)).not.toThrow();
    expect((await gateway.complete('who is there?', 4)).status).toBe(200);
  });

  it('gain one and lose one', async () => {
    await start({ a: {}, b: {} });
    const [a] = paged.plans;
    await paged.fleet.replaceAll([{ ...a!, id: 'c' }, a!]);
    expect(paged.fleet.entries.map(({ id }) => id)).toEqual(['a~', 'c']);
    await eventually('both ready', async () => (await gateway.readyPools()) === 2);
  });
});
