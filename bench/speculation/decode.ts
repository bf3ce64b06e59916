// A prompt's answer by the engine, with and without drafts in turn, as its own process: one line of JSON on stdout. Both engines use one
// runner, one after the other, and must give the same tokens. The time is that between the first token and the last.
import { Engine } from '../../engine/engine.ts';
import { openDevice } from '../../engine/gpu/device.ts';
import { clockFor } from '../../engine/gpu/deviceClock.ts';
import { invariant } from '../../engine/invariant.ts';
import { createLlamaRunner } from '../../engine/llama/runner.ts';
import { openModelFile } from '../../engine/model/modelFile.ts';
import { openModelText } from '../../engine/model/modelText.ts';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import { GREEDY, type SequenceRequest } from '../../engine/request.ts';
import { ngramSpeculation } from '../../engine/speculation/ngramDrafter.ts';
import type { BenchPrompt } from './prompts.ts';

export interface DecodeTask {
  model: string;
  dawnFlags: readonly string[];
  prompts: readonly BenchPrompt[];
  generate: number;
  rounds: number;
  maxDraftTokens: number;
}

export interface Pace {
  /** By the clock on the wall, and by the time that the adapter was at work, which others on the machine don't stretch. */
  tokensPerSecond: number;
  tokensPerWorkSecond: number;
}

export interface DecodeResult {
  prompt: string;
  promptTokens: number;
  /** Behind the first token, by round. */
  plain: Pace[];
  ngram: Pace[];
  /** Of a round: output tokens, drafts computed, and drawn; engine steps behind the first token. */
  tokens: number;
  drafted: number[];
  accepted: number[];
  steps: number[];
  text: string;
}

export interface DecodeAnswer {
  adapter: string;
  /** How the adapter's work was timed. */
  clock: string;
  results: DecodeResult[];
}

const task: DecodeTask = JSON.parse(process.argv[2] ?? '{}');
const gpu = await openDevice({ dawnFlags: [...task.dawnFlags] });
const { file } = await openModelFile(task.model);
const text = await openModelText(task.model);
const asked = task.prompts.map(({ name, content, temperature }) => ({
  name,
  ids: Int32Array.from(text.renderChat([{ role: 'user', content }])),
  sampling: { ...GREEDY, temperature, seed: '7' },
}));
const longest = Math.max(...asked.map(({ ids }) => ids.length)) + task.generate;
const kvBlocks = Math.ceil(longest / BLOCK_TOKENS) + 2;
const runner = await createLlamaRunner({ gpu, file, activations: 'int8', kvBlocks, maxStepTokens: 64 });

const clock = clockFor(gpu.software);

/** One engine over the runner, and what it answers. */
class Contender {
  readonly engine: Engine;
  ids: number[] = [];
  #firstMs = 0;
  #lastMs = 0;
  #worked: () => number = () => 0;

  constructor(maxDraftTokens: number | null) {
    this.engine = new Engine({
      runner,
      clock: () => performance.now(),
      ...(maxDraftTokens !== null && { speculation: ngramSpeculation(maxDraftTokens) }),
      onOutputs: (outputs) => {
        for (const { ids } of outputs) {
          if (ids.length === 0) continue;
          this.#lastMs = performance.now();
          if (this.ids.length === 0) {
            this.#firstMs = this.#lastMs;
            this.#worked = clock.start();
          }
          this.ids.push(...ids);
        }
      },
      onFatal: (error) => {
        throw error;
      },
    });
  }

  async answer(request: SequenceRequest): Promise<Pace> {
    this.ids = [];
    invariant(!this.engine.submit(request), 'an idle engine takes the request');
    while (await this.engine.step());
    const tokens = this.ids.length - 1;
    return {
      tokensPerSecond: (tokens / (this.#lastMs - this.#firstMs)) * 1000,
      tokensPerWorkSecond: tokens / this.#worked(),
    };
  }
}

const plain = new Contender(null);
const ngram = new Contender(task.maxDraftTokens);
const results: DecodeResult[] = [];
for (const { name, ids, sampling } of asked) {
  const request: SequenceRequest = {
    ...{ id: name, choice: 0, tenant: 'bench', weight: 1, priority: 0, cache: null, sampling },
    ...{ account: { name: 'bench', weight: 1, floorShare: 0 }, promptIds: ids, maxTokens: task.generate },
    ...{ eosIds: [...text.eosIds], logprobs: null, promptLogprobs: null, deadlineMs: Number.POSITIVE_INFINITY },
  };
  const result: DecodeResult = {
    ...{ prompt: name, promptTokens: ids.length, plain: [], ngram: [], tokens: 0 },
    ...{ drafted: [], accepted: [], steps: [], text: '' },
  };
  // The first round compiles what is lazy, and is not counted.
  for (let round = 0; round <= task.rounds; round++) {
    const before = ngram.engine.status();
    const rates = new Map<Contender, Pace>();
    for (const one of round % 2 ? [ngram, plain] : [plain, ngram]) rates.set(one, await one.answer(request));
    invariant(String(plain.ids) === String(ngram.ids), 'drafts change no token', { prompt: name, round });
    if (round === 0) continue;
    const after = ngram.engine.status();
    result.plain.push(rates.get(plain)!);
    result.ngram.push(rates.get(ngram)!);
    result.tokens = ngram.ids.length;
    result.drafted.push(after.draftedTokens - before.draftedTokens);
    result.accepted.push(after.acceptedTokens - before.acceptedTokens);
    result.steps.push(after.steps - before.steps);
  }
  result.text = text.decode(ngram.ids);
  results.push(result);
}
const answer: DecodeAnswer = { adapter: gpu.adapterName, clock: clock.name, results };
process.stdout.write(`${JSON.stringify(answer)}\n`);
process.exit(0);
