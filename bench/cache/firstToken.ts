// Time to the first token of one prompt, cold and from each tier, through the engine on the real GPU, as its own process:
// `node bench/cache/firstToken.ts '{"model","dawnFlags","tokens","rounds"}'`. Prints one line of JSON.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Engine } from '../../engine/engine.ts';
import { openDevice } from '../../engine/gpu/device.ts';
import { createLlamaRunner } from '../../engine/llama/runner.ts';
import { openModelFile } from '../../engine/model/modelFile.ts';
import { BLOCK_TOKENS, type ModelRunner } from '../../engine/modelRunner.ts';
import { NEUTRAL_RETENTION, type RequestCache, type SequenceRequest } from '../../engine/request.ts';
import { TierStore } from '../../engine/tiers/tierStore.ts';

export interface FirstTokenTask {
  model: string;
  dawnFlags: string[];
  tokens: number;
  rounds: number;
}

/** Milliseconds, one per round; cold: a single one. */
export interface FirstTokenAnswer {
  adapter: string;
  ms: Record<'cold' | 'gpu' | 'ram' | 'disk', number[]>;
}

const CACHE: RequestCache = {
  scope: { namespace: 'tenant', sealKey: new Uint8Array(32).fill(7) },
  ...{ extra: '', retention: NEUTRAL_RETENTION },
};

/** Beside the prompt: a little, so that another prompt of its length needs its blocks. */
const SPARE_BLOCKS = 8;

const task: FirstTokenTask = JSON.parse(process.argv[2] ?? '{}');
const gpu = await openDevice({ dawnFlags: task.dawnFlags });
const { file } = await openModelFile(task.model);
const kvBlocks = Math.ceil(task.tokens / BLOCK_TOKENS) + SPARE_BLOCKS;
const runner = await createLlamaRunner({ gpu, file, activations: 'int8', kvBlocks, maxStepTokens: 64 });
const folder = mkdtempSync(join(tmpdir(), 'hearth-bench-kv-'));
const prompt = (own: number): Int32Array =>
  Int32Array.from({ length: task.tokens }, (_, i) => 300 + ((i * 7919 + own * 104_729) % 20_000));

class Pool {
  readonly store: TierStore;
  readonly tiers: ReturnType<TierStore['cacheFor']>;
  readonly engine: Engine;
  #asked = 0;
  #firstMs: number | null = null;

  constructor(of: ModelRunner, ramBytes: number) {
    const options = { ramBytes, diskFolder: join(folder, 'kv'), diskBytes: 2 ** 40, writeThrough: true };
    this.store = new TierStore(options, Date.now, (line) => console.error(line));
    this.tiers = this.store.cacheFor(of.transfer, of.fingerprint);
    this.engine = new Engine({
      ...{ runner: of, tiers: this.tiers, clock: Date.now },
      onOutputs: (outputs) => {
        if (outputs.some(({ ids }) => ids.length > 0)) this.#firstMs ??= performance.now();
      },
      onFatal: (error) => {
        throw error;
      },
    });
  }

  async firstTokenMs(promptIds: Int32Array): Promise<number> {
    this.#firstMs = null;
    const began = performance.now();
    this.#submit(promptIds, CACHE);
    while (await this.engine.step());
    return (this.#firstMs ?? Number.NaN) - began;
  }

  /** Takes all blocks of the arena for a moment: a request is given its prompt's blocks when it is admitted. */
  async flood(): Promise<void> {
    const id = this.#submit(prompt(1), null);
    await this.engine.step();
    this.engine.cancel(id);
    while (await this.engine.step());
  }

  async settled(): Promise<void> {
    for (let busy = true; busy; await sleep(1)) {
      const { waitingCopies, disk } = this.tiers.status();
      busy = waitingCopies > 0 || (disk?.queuedWrites ?? 0) > 0;
    }
  }

  #submit(promptIds: Int32Array, cache: RequestCache | null): string {
    const id = `r${this.#asked++}`;
    const refusal = this.engine.submit({ ...REQUEST, id, promptIds: promptIds.slice(), cache });
    if (refusal) throw new Error(refusal.message);
    return id;
  }
}

const REQUEST: Omit<SequenceRequest, 'id' | 'promptIds' | 'cache'> = {
  account: { name: 'tenant', weight: 1, floorShare: 0 },
  ...{ choice: 0, tenant: 'tenant', weight: 1, priority: 0, maxTokens: 2, eosIds: [], logprobs: null },
  ...{ promptLogprobs: null, deadlineMs: Number.MAX_SAFE_INTEGER },
  sampling: {
    ...{ temperature: 0, topP: 1, topK: 0, minP: 0, frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1 },
    ...{ logitBias: [], seed: '0' },
  },
};

const ms: FirstTokenAnswer['ms'] = { cold: [], gpu: [], ram: [], disk: [] };
const first = new Pool(runner, 2 ** 40);
await first.store.start();
await first.firstTokenMs(prompt(2).subarray(0, 80)); // kernels are compiled at their first use
ms.cold.push(await first.firstTokenMs(prompt(0)));
await first.settled();
for (let round = 0; round < task.rounds; round++) {
  ms.gpu.push(await first.firstTokenMs(prompt(0)));
  await first.flood();
  ms.ram.push(await first.firstTokenMs(prompt(0)));
}
await first.flood();
for (let round = 0; round < task.rounds; round++) {
  const restarted = new Pool(runner, 0);
  await restarted.store.start();
  await restarted.flood(); // knows how long a step takes
  ms.disk.push(await restarted.firstTokenMs(prompt(0)));
  await restarted.flood();
  await restarted.store.close(0);
}
await first.store.close(0);
rmSync(folder, { recursive: true, force: true });
process.stdout.write(`${JSON.stringify({ adapter: gpu.adapterName, ms } satisfies FirstTokenAnswer)}\n`);
process.exit(0);
