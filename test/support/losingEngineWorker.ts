// The engine thread that serves for real, on a device that a test can take away: whenever the file that HEARTH_TEST_LOSE names is there, it is
// removed and every device of this thread is lost, as after a driver's reset.
import { rmSync } from 'node:fs';
import { globals } from 'webgpu';

const LOOK_EVERY_MS = 10;

const path = process.env.HEARTH_TEST_LOSE ?? '';
const devices = new Set<GPUDevice>();
Object.assign(globalThis, globals);
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  devices.add(device);
  return device;
};
setInterval(() => {
  try {
    rmSync(path);
  } catch {
    return; // nobody asked
  }
  for (const device of devices) device.destroy();
  devices.clear();
}, LOOK_EVERY_MS).unref();
await import('../../pool/engineWorker.ts');
