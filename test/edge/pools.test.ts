// The directory of pools on Workers, in workerd, by the conformance that both hosts pass.
import { afterAll, beforeAll, describe } from 'vitest';
import { directoryConformance } from '../support/directoryConformance.ts';
import { EdgeRig } from '../support/edgeRig.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';

const pool = new ScriptedPool();
let rig: EdgeRig;
beforeAll(async () => {
  await pool.start();
  rig = await EdgeRig.start(pool);
});
afterAll(async () => {
  await rig.stop();
  await pool.kill();
});

describe('the directory on Workers', () => {
  directoryConformance(
    () => rig,
    () => pool,
  );
});
