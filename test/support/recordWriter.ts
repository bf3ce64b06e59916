// A process that computes prompts and leaves their blocks in a folder as fast as it can, telling each prompt's seed on stdout when it
// begins: the victim of the kill -9 test, and the neighbour on a shared folder. Arguments: folder, first seed, bytes, blocks per prompt.
import fs from 'node:fs';
import { TierStore } from '../../engine/tiers/tierStore.ts';
import { pathOf, promptOf, scopeOf, TierRig } from './tierRig.ts';

const [diskFolder = '', firstSeed = '0', diskBytes = '1e9', blocks = '4', blockBytes = '65536'] = process.argv.slice(2);
const rig = new TierRig(Number(blockBytes));
const store = new TierStore(
  { ramBytes: 0, diskFolder, diskBytes: Number(diskBytes), writeThrough: false },
  Date.now,
  (line) => fs.writeSync(2, line),
);
await store.start();
const tiers = store.cacheFor(rig, 'f');
for (let seed = Number(firstSeed); ; seed++) {
  fs.writeSync(1, `${seed}\n`);
  rig.evict(tiers, rig.compute(tiers, pathOf(scopeOf('alice'), promptOf(seed, Number(blocks)))));
  do await new Promise((resolve) => setTimeout(resolve, 1));
  while ((tiers.status().disk?.queuedWrites ?? 0) > 8);
}
