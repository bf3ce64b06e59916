// The ledger of a Durable Object, in workerd, through the suite of all ledgers: real storage, real calls between Worker and object. A new
// process of the suite is here an object that is killed, and made anew from what it has stored.
import { beforeAll, expect } from 'vitest';
import type { LedgerStore } from '../../gateway/ledger/port.ts';
import { EdgeRig } from '../support/edgeRig.ts';
import { ledgerConformance } from '../support/ledgerConformance.ts';
import { ScriptedPool } from '../support/scriptedPool.ts';
import type { Lever } from './testWorker.ts';

/** Each command is a request to workerd. */
const RUNS = 40;

let rig: EdgeRig;
let objects = 0;

beforeAll(async () => {
  const pool = new ScriptedPool();
  await pool.start();
  rig = await EdgeRig.start(pool);
  return async () => {
    await rig.stop();
    await pool.kill();
  };
});

/** Whatever the port has, as it is there. A promise may carry it: it has no `then`. */
function storeOf(object: string): LedgerStore {
  const command =
    (name: string | symbol) =>
    (...args: unknown[]) =>
      rig.pull(object, { lever: 'store', name, args } as Lever, 'still');
  return new Proxy({} as LedgerStore, { get: (_store, name) => (name === 'then' ? undefined : command(name)) });
}

ledgerConformance(
  'the ledger of a Durable Object',
  async () => {
    const object = `ledger-${objects++}`;
    const ledger = storeOf(object);
    return {
      ledger,
      async reopen() {
        await expect(rig.pull(object, { lever: 'crash' }, 'still')).rejects.toThrow(/crashed by its test/);
        return ledger;
      },
      async close() {},
    };
  },
  { runs: RUNS },
);
