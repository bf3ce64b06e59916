// Times cases in turn, round after round, so that a busy moment of the machine falls on all of them.
import type { Clock } from '../../engine/gpu/deviceClock.ts';
import { sampleSeconds } from '../../engine/tuning/sample.ts';
import type { KernelCase, Timed } from './operation.ts';

/** A sample lasts at least this long: against it, submitting and waiting are small. */
const SAMPLE_SECONDS = 0.03;
/** Stops the search for a count on a device that is done at once whatever it is given. */
const MAX_REPEATS = 2 ** 16;

const sample = (device: GPUDevice, clock: Clock, given: KernelCase, repeats: number): Promise<number> =>
  sampleSeconds(device, clock, (pass) => given.encode(pass), repeats);

/** Seconds per `encode` of each case in each round; every second round goes backwards. */
export async function time(
  device: GPUDevice,
  clock: Clock,
  cases: readonly { operation: string; case: KernelCase }[],
  rounds: number,
): Promise<Timed[]> {
  const timed: (Timed & { repeats: number })[] = [];
  for (const given of cases) {
    let repeats = 1;
    // The first run compiles: not counted.
    await sample(device, clock, given.case, 1);
    while (repeats < MAX_REPEATS && (await sample(device, clock, given.case, repeats)) < SAMPLE_SECONDS) repeats *= 2;
    timed.push({ ...given, seconds: [], repeats });
  }
  for (let round = 0; round < rounds; round++)
    for (const given of round % 2 ? timed.toReversed() : timed)
      given.seconds.push((await sample(device, clock, given.case, given.repeats)) / given.repeats);
  return timed;
}
