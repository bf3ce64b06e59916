// Settles tunables within a budget of time, one after the other:
//
//   stored? ─yes─▶ as stored         each candidate: compile ─▶ same bits as the first? ─no─▶ dropped
//      └─no─▶ time left? ─no─▶ by rule                            └─yes─▶ timed in turn ─▶ medians ─▶ the fastest by a margin ─▶ stored
//
// So a start without a file is later by the budget at most, and one with a file measures nothing. What the budget cuts off stays as the rule has it
// and is not stored: the next start goes on there.
import type { Clock } from '../gpu/deviceClock.ts';
import { compared, fastest } from './fastest.ts';
import { sampleSeconds } from './sample.ts';
import { byRule, type Prepared, type Problem, type Tunable, type Verdict } from './tunable.ts';
import type { VerdictFile } from './verdictFile.ts';

/** Times of each candidate. */
const ROUNDS = 9;
/** A sample lasts about this long: against it, submitting and waiting are small. */
const SAMPLE_SECONDS = 0.004;
/** Stops the search for a count on a device that is done at once whatever it is given. */
const MAX_REPEATS = 1024;

export interface TunerOptions {
  device: GPUDevice;
  clock: Clock;
  now: () => number;
  /** null: nothing is stored. */
  file: VerdictFile | null;
  /** For everything that is measured, the compiling of candidates included. */
  budgetMs: number;
  /** Before each candidate: tunables settled so far and in all. What it throws ends the tuning. */
  onProgress: (done: number, total: number) => void;
  /** The choice stands, but could not be stored. */
  onNotice: (message: string) => void;
}

export class Tuner {
  readonly #options: TunerOptions;
  readonly #verdicts = new Map<string, Verdict>();
  #untilMs: number | null = null;

  constructor(options: TunerOptions) {
    this.#options = options;
  }

  /** What was settled so far, by name. */
  get verdicts(): ReadonlyMap<string, Verdict> {
    return this.#verdicts;
  }

  /** `total`: tunables of this start, for the progress. */
  async settle(tunable: Tunable, total: number): Promise<Verdict> {
    const known = this.#verdicts.get(tunable.name);
    if (known) return known;
    const verdict = await this.#settle(tunable, total);
    this.#verdicts.set(tunable.name, verdict);
    return verdict;
  }

  async #settle(tunable: Tunable, total: number): Promise<Verdict> {
    const { file } = this.#options;
    if (tunable.names.length === 1) return byRule(tunable);
    const stored = file?.find(tunable);
    if (stored) return stored;
    // The budget begins with the first thing that is measured: weights and other kernels may have taken their time before.
    this.#untilMs ??= this.#options.now() + this.#options.budgetMs;
    if (this.#late()) return byRule(tunable);
    const problem = await tunable.problem();
    try {
      const verdict = await this.#measure(problem, total);
      if (!verdict) return byRule(tunable);
      await file?.keep(tunable, verdict).catch((error: unknown) => {
        this.#options.onNotice(
          `measured kernels could not be stored: ${error instanceof Error ? error.message : error}`,
        );
      });
      return verdict;
    } finally {
      problem.destroy();
    }
  }

  /** null: the budget was over before the candidates could be compared. */
  async #measure(problem: Problem, total: number): Promise<Verdict | null> {
    const dropped: string[] = [];
    const ready = new Map<string, Prepared>();
    let reference: Uint32Array | null = null;
    for (const { name, prepare } of problem.candidates) {
      this.#options.onProgress(this.#verdicts.size, total);
      if (this.#late()) return null;
      // The reference has to run: it is what the engine takes where there is no tuner.
      const prepared: Prepared | null = await (reference ? prepare().catch(() => null) : prepare());
      const bits: Uint32Array | null = prepared && (await this.#bits(problem.result, prepared));
      reference ??= bits;
      if (prepared && bits && reference && equal(bits, reference)) ready.set(name, prepared);
      else dropped.push(name);
    }
    const seconds = await this.#time(ready);
    return seconds && { chosen: fastest(seconds), why: 'measured', seconds: Object.fromEntries(seconds), dropped };
  }

  async #bits(result: GPUBuffer, prepared: Prepared): Promise<Uint32Array> {
    const { device } = this.#options;
    const { MAP_READ, COPY_DST } = GPUBufferUsage;
    const staging = device.createBuffer({ label: 'tuned bits', size: result.size, usage: MAP_READ | COPY_DST });
    const encoder = device.createCommandEncoder({ label: 'self-test' });
    encoder.clearBuffer(result);
    const pass = encoder.beginComputePass();
    prepared.check(pass);
    pass.end();
    encoder.copyBufferToBuffer(result, 0, staging, 0, result.size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const bits = new Uint32Array(staging.getMappedRange().slice(0));
    staging.destroy();
    return bits;
  }

  /** By name; every second round goes backwards, so that a busy moment of the machine falls on all. null: no time for it. */
  async #time(ready: ReadonlyMap<string, Prepared>): Promise<Map<string, number> | null> {
    const [rule] = ready.values();
    if (!rule) return null;
    let repeats = 1;
    while (repeats < MAX_REPEATS && (await this.#sample(rule, repeats)) < SAMPLE_SECONDS) repeats *= 2;
    const samples = new Map<string, number[]>(Array.from(ready.keys(), (name) => [name, []]));
    for (let round = 0; round < ROUNDS; round++) {
      if (this.#late()) return null;
      const turn = [...ready];
      for (const [name, prepared] of round % 2 ? turn.reverse() : turn)
        samples.get(name)!.push((await this.#sample(prepared, repeats)) / repeats);
    }
    return compared(samples);
  }

  #sample(prepared: Prepared, repeats: number): Promise<number> {
    const { device, clock } = this.#options;
    return sampleSeconds(device, clock, (pass) => prepared.run(pass), repeats);
  }

  #late(): boolean {
    return this.#untilMs !== null && this.#options.now() >= this.#untilMs;
  }
}

function equal(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
