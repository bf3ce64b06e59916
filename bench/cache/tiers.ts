// What the tiers outside the GPU cost: asking them about a prompt, bringing its blocks back, and putting them there. Real memory and a real
// folder; the GPU's part is bench/cache/firstToken.ts. What is read was written just before, so the disk's rate is that of the page cache.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import type { BlockTransfer, CachedPath, KvTiers } from '../../engine/tiers/port.ts';
import { TierStore } from '../../engine/tiers/tierStore.ts';
import { median, type Row } from '../report.ts';

export interface TierBenchSize {
  promptTokens: number;
  /** Of a KV block over all layers. */
  blockBytes: number;
  rounds: number;
}

const WAIT_MS = 1;
const SCOPE = { namespace: 'tenant', sealKey: randomBytes(32) };

function pathOf(tokens: number): CachedPath {
  const ids = Int32Array.from({ length: tokens }, (_, i) => Math.imul(i + 1, 7_919) >>> 8);
  return {
    tokens: ids,
    extra: '',
    scope: SCOPE,
    account: { name: SCOPE.namespace, weight: 1 },
    publicScope: null,
    publicBlocks: 0,
  };
}

/** A GPU that answers at once. */
function transferOf(blockBytes: number): BlockTransfer {
  const block = new Uint8Array(randomBytes(blockBytes));
  return { blockBytes, writeMs: 0, readBlock: async () => block.slice(), writeBlock: () => {} };
}

/** The block manager's words for a prompt that is computed and stays on the GPU. */
function store(tiers: KvTiers, { tokens, scope, extra }: CachedPath): void {
  for (let block = 0; (block + 1) * BLOCK_TOKENS <= tokens.length; block++) {
    const own = tokens.subarray(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS);
    tiers.stored(block, block - 1, scope.namespace, extra, own);
  }
}

async function measureTier(
  tier: 'ram' | 'disk',
  tiers: KvTiers,
  path: CachedPath,
  size: TierBenchSize,
): Promise<Row[]> {
  const blocks = Math.floor(size.promptTokens / BLOCK_TOKENS);
  const probe: number[] = [];
  const load: number[] = [];
  for (let round = 0; round < size.rounds; round++) {
    let began = performance.now();
    const hit = tiers.probe(path, 0, size.promptTokens);
    probe.push((performance.now() - began) * 1000);
    began = performance.now();
    let loaded = 0;
    while (loaded < blocks) {
      const more = await tiers.load(path, loaded, blocks - loaded, new AbortController().signal);
      if (more.blocks.length === 0) break;
      loaded += more.blocks.length;
    }
    load.push(performance.now() - began);
    if (hit.blocks !== blocks || loaded !== blocks) throw new Error(`${tier} answered ${loaded} of ${blocks} blocks`);
  }
  const of = { tier, tokens: size.promptTokens };
  const megabytes = (blocks * size.blockBytes) / 1e6;
  return [
    { name: 'tier_probe', value: median(probe), unit: 'us', ...of },
    { name: 'tier_load', value: median(load), unit: 'ms', ...of },
    // From RAM nothing is copied before the GPU takes it.
    ...(tier === 'disk'
      ? [{ name: 'tier_load_rate', value: (megabytes / median(load)) * 1000, unit: 'MB/s', ...of }]
      : []),
  ];
}

export async function measureTiers(size: TierBenchSize): Promise<Row[]> {
  const parent = mkdtempSync(join(tmpdir(), 'hearth-bench-tiers-'));
  const stores: TierStore[] = [];
  const tiersOf = async (ramBytes: number): Promise<KvTiers> => {
    const options = { ramBytes, diskFolder: join(parent, 'kv'), diskBytes: 2 ** 40, writeThrough: true };
    const opened = new TierStore(options, Date.now, (line) => console.error(line));
    stores.push(opened);
    await opened.start();
    return opened.cacheFor(transferOf(size.blockBytes), 'bench');
  };
  try {
    const path = pathOf(size.promptTokens);
    const warm = await tiersOf(2 ** 40);
    warm.probe(path, 0, 0);
    const began = performance.now();
    store(warm, path);
    for (let busy = true; busy; await sleep(WAIT_MS)) {
      const { waitingCopies, disk } = warm.status();
      busy = waitingCopies > 0 || (disk?.queuedWrites ?? 0) > 0;
    }
    const seconds = (performance.now() - began) / 1000;
    const megabytes = ((warm.status().disk?.stored ?? 0) * size.blockBytes) / 1e6;
    return [
      { name: 'tier_write_rate', value: megabytes / seconds, unit: 'MB/s', tier: 'disk', tokens: size.promptTokens },
      ...(await measureTier('ram', warm, path, size)),
      ...(await measureTier('disk', await tiersOf(0), path, size)),
    ];
  } finally {
    for (const opened of stores) await opened.close(0);
    rmSync(parent, { recursive: true, force: true });
  }
}
