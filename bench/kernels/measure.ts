// One process of the kernel bench, in the environment of its adapter: `node bench/kernels/measure.ts '{"dawnFlags","operations","rounds","quick"}'`.
// Prints one line of JSON.
import { openDevice } from '../../engine/gpu/device.ts';
import { clockFor } from '../../engine/gpu/deviceClock.ts';
import type { KernelCase } from './operation.ts';
import { OPERATIONS } from './operations.ts';
import { peaks } from './peaks.ts';
import { time } from './timing.ts';

interface Task {
  dawnFlags: string[];
  operations: string[];
  rounds: number;
  quick: boolean;
}

const task: Task = JSON.parse(process.argv[2] ?? '{}');
const gpu = await openDevice({ dawnFlags: task.dawnFlags });
gpu.device.onuncapturederror = (event) => {
  throw new Error(`GPU: ${event.error.message}`);
};
const cases: { operation: string; case: KernelCase }[] = [];
for (const operation of [peaks, ...OPERATIONS.filter(({ name }) => task.operations.includes(name))])
  for (const given of await operation.cases(gpu, task.quick)) cases.push({ operation: operation.name, case: given });
const clock = clockFor(gpu.software);
const timed = await time(gpu.device, clock, cases, task.rounds);
const rows = timed.map(({ operation, case: { parameters, macs, bytes }, seconds }) => ({
  ...{ operation, parameters, macs, bytes, seconds },
}));
process.stdout.write(`${JSON.stringify({ adapter: gpu.adapterName, clock: clock.name, rows })}\n`);
process.exit(0);
