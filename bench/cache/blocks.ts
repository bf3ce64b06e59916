// What the block manager and its prefix index cost the host: looking up, admitting, computing, releasing and evicting, per prompt or per
// block; and what a cached block takes of its memory. No GPU.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BlockManager, type BlockTable } from '../../engine/blockManager.ts';
import { createEvictionPolicy } from '../../engine/eviction/policies.ts';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import { median, type Row } from '../report.ts';

export interface CacheBenchSize {
  /** Tokens of the prompts that are looked up. */
  promptTokens: readonly number[];
  /** Blocks whose memory is measured. */
  memoryBlocks: number;
  rounds: number;
  policy: string;
}

const NAMESPACE = 'tenant';

/** Vocabulary of the prompts. */
const VOCABULARY = 128_000;

/** Like ids of real text: no two of these prompts begin alike, no token twice in a row. */
function prompt(tokens: number, own: number): Int32Array {
  return Int32Array.from(
    { length: tokens },
    (_, i) => ((Math.imul(i + 1, 7_919) + Math.imul(own, 104_729)) % VOCABULARY) >>> 0,
  );
}

function managerOf(capacityBlocks: number, policy: string): BlockManager {
  return new BlockManager(capacityBlocks, createEvictionPolicy(policy, capacityBlocks), {
    copyBlock: () => {},
    clock: () => performance.now(),
  });
}

function admit(blocks: BlockManager, tokens: Int32Array): BlockTable {
  const positions = tokens.length;
  const table = blocks.admit({
    scope: NAMESPACE,
    tokens,
    positions,
    maxCached: positions - 1,
    capacityPositions: positions + 1024,
    headroomBlocks: 0,
  });
  if (!table) throw new Error(`${positions} tokens have no room in ${blocks.capacityBlocks} blocks`);
  return table;
}

function compute(blocks: BlockManager, tokens: Int32Array): BlockTable {
  const table = admit(blocks, tokens);
  blocks.publish(table, tokens, tokens.length);
  return table;
}

const us = (began: number): number => (performance.now() - began) * 1_000;

/** A prompt that is cached as a whole: looked up, admitted, released. `branches`: others leave its path, so that it is in many runs. */
function measureCached(tokens: number, branches: number, { rounds, policy }: CacheBenchSize): Row[] {
  const count = Math.ceil(tokens / BLOCK_TOKENS);
  const blocks = managerOf(count + 4 * branches + 64, policy);
  const ids = prompt(tokens, 1);
  blocks.release(compute(blocks, ids));
  for (let i = 1; i <= branches; i++) {
    const at = Math.floor((tokens * i) / (branches + 1));
    const branch = new Int32Array(at + 2 * BLOCK_TOKENS);
    branch.set(ids.subarray(0, branch.length));
    branch.fill(VOCABULARY - i, at);
    blocks.release(compute(blocks, branch));
  }
  const times = { lookup: [] as number[], admitHit: [] as number[], release: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    // An equal prompt in other memory: nothing of the look-up may be remembered by identity.
    const asked = ids.slice();
    let began = performance.now();
    const cached = blocks.cachedPrefix(NAMESPACE, asked, tokens);
    times.lookup.push(us(began));
    if (cached !== Math.floor(tokens / BLOCK_TOKENS) * BLOCK_TOKENS) throw new Error('the prompt is not cached');
    began = performance.now();
    const table = admit(blocks, asked);
    times.admitHit.push(us(began));
    began = performance.now();
    blocks.release(table);
    times.release.push(us(began));
  }
  const of = { tokens, branches };
  return [
    { name: 'cache_lookup', value: median(times.lookup), unit: 'us', ...of },
    { name: 'cache_admit_hit', value: median(times.admitHit) / count, unit: 'us/block', ...of },
    { name: 'cache_release', value: median(times.release) / count, unit: 'us/block', ...of },
  ];
}

/** Prompts that are new: admitted into free blocks, computed, then into a full cache that evicts for them; and decoding. */
function measureFresh(tokens: number, { rounds, policy }: CacheBenchSize): Row[] {
  const count = Math.ceil(tokens / BLOCK_TOKENS);
  const blocks = managerOf(rounds * count, policy);
  const times = { admit: [] as number[], publish: [] as number[], evict: [] as number[], append: [] as number[] };
  for (let round = 0; round < 2 * rounds; round++) {
    const ids = prompt(tokens, round);
    let began = performance.now();
    const table = admit(blocks, ids);
    (round < rounds ? times.admit : times.evict).push(us(began));
    began = performance.now();
    blocks.publish(table, ids, tokens);
    times.publish.push(us(began));
    blocks.release(table);
  }
  const decoded = 1_024;
  for (let round = 0; round < rounds; round++) {
    const ids = prompt(tokens + decoded, 2 * rounds + round);
    const table = compute(blocks, ids.subarray(0, tokens));
    const began = performance.now();
    for (let length = tokens + 1; length <= tokens + decoded; length++) {
      blocks.grow(table, length);
      blocks.publish(table, ids, length);
    }
    times.append.push(us(began) / decoded);
    blocks.release(table);
  }
  return [
    { name: 'cache_admit', value: median(times.admit) / count, unit: 'us/block', tokens },
    { name: 'cache_publish', value: median(times.publish) / count, unit: 'us/block', tokens },
    { name: 'cache_admit_evicting', value: median(times.evict) / count, unit: 'us/block', tokens },
    { name: 'cache_append', value: median(times.append), unit: 'us/token', tokens },
  ];
}

function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  // What a collection finds dead of buffers is counted off by the next one.
  for (let i = 0; i < 3; i++) collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Bytes on the host per block of a cache that is full of prompts of `tokens` tokens. */
function measureMemory(tokens: number, { memoryBlocks, policy }: CacheBenchSize): Row[] {
  const before = heapBytes();
  const blocks = managerOf(memoryBlocks, policy);
  const each = Math.ceil(tokens / BLOCK_TOKENS);
  for (let own = 0; blocks.freeBlocks >= each; own++) blocks.release(compute(blocks, prompt(tokens, own)));
  const bytes = (heapBytes() - before) / blocks.cachedBlocks;
  return [{ name: 'cache_memory', value: bytes, unit: 'bytes/block', tokens, blocks: blocks.cachedBlocks }];
}

/** Positions of used blocks that hold nothing, while sequences of 100 to 2,000 tokens run. */
function measureWaste({ policy }: CacheBenchSize): Row[] {
  const blocks = managerOf(16_384, policy);
  let held = 0;
  for (let i = 0; i < 128; i++) held += compute(blocks, prompt(100 + ((i * 1_237) % 1_900), i)).length;
  const { wastedPositions } = blocks.status(1);
  return [{ name: 'kv_waste', value: (100 * wastedPositions) / (held * BLOCK_TOKENS), unit: '%', sequences: 128 }];
}

export function measureBlocks(size: CacheBenchSize): Row[] {
  return [
    // First, while there is no garbage of the others to be told from it.
    ...measureMemory(4_000, size),
    ...measureMemory(24, size),
    ...size.promptTokens.flatMap((tokens) => measureCached(tokens, 0, size)),
    ...measureCached(size.promptTokens.at(-1)!, 64, size),
    ...measureFresh(4_000, size),
    ...measureWaste(size),
  ];
}
