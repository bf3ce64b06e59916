// That no action is done without a trace at the edge: its entry could not be written, and the next round of collecting writes it.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EdgeRig } from '../support/edgeRig.ts';
import { ADMIN_KEY } from '../support/gatewayClient.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

const pool = new ScriptedPool();
let rig: EdgeRig;
beforeEach(async () => {
  await pool.start();
  rig = await EdgeRig.start(pool);
});
afterEach(async () => {
  await rig.stop();
  await pool.kill();
});

test('an action whose invocation ends before its entry is told later, as one whose end nobody knows', async () => {
  const { id } = await rig.tenant();
  const newest = async () => (await rig.admin<{ data: object[] }>('GET', '/audit_logs?limit=1')).data[0];
  await rig.sql(`CREATE TRIGGER broken BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'broken'); END`);
  const path = `/v1/organization/projects/${id}`;
  const answer = await rig.request('POST', path, { key: ADMIN_KEY, body: { name: 'renamed' } });
  expect(answer.status).toBe(500);
  expect(await rig.admin('GET', `/projects/${id}`)).toMatchObject({ name: 'renamed' });
  await rig.sql('UPDATE audit_intents SET at_ms = at_ms - 3600000');
  await rig.pull(id, { lever: 'scheduled' }); // it fails again, and keeps nothing else from being collected
  await rig.sql('UPDATE audit_intents SET at_ms = at_ms + 3600000');
  await rig.sql('DROP TRIGGER broken');
  await rig.pull(id, { lever: 'scheduled' });
  expect(await newest()).not.toMatchObject({ type: 'project.updated' }); // it may still be under way
  await rig.sql('UPDATE audit_intents SET at_ms = at_ms - 3600000');
  await rig.pull(id, { lever: 'scheduled' });
  expect(await newest()).toMatchObject({ type: 'project.updated', outcome: 'unknown', 'project.updated': { id } });
});
