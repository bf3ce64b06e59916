// That no action is done without a trace: its process is killed between the action and its entry, or its storage fails there.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, expect, test } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import type { GatewayClient } from '../../test/support/gatewayClient.ts';
import { GatewayProcess } from '../../test/support/gatewayProcess.ts';
import { ADMIN_KEY, GatewayRig } from '../../test/support/gatewayRig.ts';
import { ScriptedPool } from '../../test/support/scriptedPool.ts';

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Shown {
  type: string;
  outcome: string;
  project?: { id: string };
  [type: string]: unknown;
}

const events = async (gateway: GatewayClient): Promise<Shown[]> =>
  (await gateway.admin<{ data: Shown[] }>('GET', '/audit_logs?limit=100')).data;

const rename = (gateway: GatewayClient, id: string, body: object = { name: 'renamed' }): Promise<Response> =>
  gateway.request('POST', `/v1/organization/projects/${id}`, { key: ADMIN_KEY, body });

/** As another process sees the gateway's database. */
function within<T>(folder: string, work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(join(folder, 'gateway.sqlite'));
  try {
    return work(db);
  } finally {
    db.close();
  }
}

test('killed between an action and its entry, a gateway tells of it at its next start', async () => {
  const pool = new ScriptedPool();
  await pool.start();
  ends.push(() => pool.kill());
  const gateway = await GatewayProcess.start([pool]);
  ends.push(() => gateway.stop());
  const { id } = await gateway.tenant();
  // The entry takes for ever: the process is in the middle of writing it.
  const stall = `CREATE VIEW endless AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e12) SELECT max(i) AS i FROM n;
    CREATE TRIGGER stalled BEFORE INSERT ON audit_log BEGIN SELECT i FROM endless; END;`;
  within(gateway.folder, (db) => db.exec(stall));
  const asked = rename(gateway, id).catch(() => 'cut');
  const renamed = () =>
    within(gateway.folder, (db) => db.prepare(`SELECT 1 FROM projects WHERE name = 'renamed'`).get() !== undefined);
  await eventually('it is done', async () => renamed());
  await gateway.kill();
  expect(await asked).toBe('cut');
  within(gateway.folder, (db) => db.exec('DROP TRIGGER stalled; DROP VIEW endless;'));
  await gateway.boot();
  const [newest, ...others] = await events(gateway);
  expect(newest).toMatchObject({
    type: 'project.updated',
    outcome: 'unknown',
    project: { id },
    'project.updated': { id },
  });
  expect(new Set(others.map(({ outcome }) => outcome))).toEqual(new Set(['done']));
  await gateway.kill();
  await gateway.boot();
  expect(await events(gateway)).toHaveLength(others.length + 1);
});

async function rigWithTenant(): Promise<{ rig: GatewayRig; id: string }> {
  const rig = await GatewayRig.start();
  ends.push(() => rig.stop());
  return { rig, id: (await rig.tenant()).id };
}

const intents = (rig: GatewayRig) => rig.db.prepare('SELECT * FROM audit_intents').all();

test('an action whose storage fails is told as one whose end nobody knows', async () => {
  const { rig, id } = await rigWithTenant();
  rig.db.exec(`CREATE TRIGGER broken BEFORE UPDATE ON projects BEGIN SELECT RAISE(ABORT, 'broken'); END;`);
  expect((await rename(rig, id)).status).toBe(500);
  expect((await events(rig))[0]).toMatchObject({
    type: 'project.updated',
    outcome: 'unknown',
    'project.updated': { id },
  });
  expect(intents(rig)).toEqual([]);
});

test('an entry that could not be written is written later', async () => {
  const { rig, id } = await rigWithTenant();
  const before = (await events(rig)).length;
  rig.db.exec(`CREATE TRIGGER broken BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'broken'); END;`);
  expect((await rename(rig, id)).status).toBe(500);
  rig.db.exec('DROP TRIGGER broken;');
  const { audit, clock } = rig.ports;
  await audit.conclude(clock.now() - 60_000); // it may still be under way
  expect(await events(rig)).toHaveLength(before);
  for (let i = 0; i < 2; i++) await audit.conclude(clock.now() + 1);
  expect((await events(rig)).slice(0, -before)).toMatchObject([{ type: 'project.updated', outcome: 'unknown' }]);
});

test('an action that can not be noted is not done', async () => {
  const { rig, id } = await rigWithTenant();
  rig.db.exec(`CREATE TRIGGER broken BEFORE INSERT ON audit_intents BEGIN SELECT RAISE(ABORT, 'broken'); END;`);
  expect((await rename(rig, id)).status).toBe(500);
  expect(rig.db.prepare(`SELECT 1 FROM projects WHERE name = 'renamed'`).all()).toEqual([]);
});

test('what is refused, read or unknown leaves no trace, not even while it is asked', async () => {
  const { rig, id } = await rigWithTenant();
  const before = await events(rig);
  expect((await rename(rig, id, { nonsense: 1 })).status).toBe(400);
  rig.db.exec(`CREATE TRIGGER broken BEFORE INSERT ON audit_intents BEGIN SELECT RAISE(ABORT, 'broken'); END;`);
  for (const [method, path] of [
    ['GET', `projects/${id}`],
    ['HEAD', `projects/${id}`],
    ['POST', 'nothing'],
    ['DELETE', `projects/${id}`],
  ] as const)
    expect((await rig.request(method, `/v1/organization/${path}`, { key: ADMIN_KEY })).status).toBeLessThan(500);
  expect(await events(rig)).toEqual(before);
  expect(intents(rig)).toEqual([]);
});
