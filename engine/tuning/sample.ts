// One sample of how long the device is at work.
import type { Clock } from '../gpu/deviceClock.ts';

/** Seconds by `clock` for `repeats` of what `run` encodes, in one submission. */
export async function sampleSeconds(
  device: GPUDevice,
  clock: Clock,
  run: (pass: GPUComputePassEncoder) => void,
  repeats: number,
): Promise<number> {
  const encoder = device.createCommandEncoder({ label: 'sample' });
  const pass = encoder.beginComputePass();
  for (let i = 0; i < repeats; i++) run(pass);
  pass.end();
  const commands = encoder.finish();
  const seconds = clock.start();
  device.queue.submit([commands]);
  await device.queue.onSubmittedWorkDone();
  return seconds();
}
