// Opens the one GPU device of this thread, with all the limits that the adapter has: Dawn's defaults are far below them.
// Which adapter, and with which driver environment, was decided before the process was spawned (adapterSearch.ts).
import { cpus } from 'node:os';
import { create, globals } from 'webgpu';
import { DeviceMemory } from './deviceMemory.ts';

Object.assign(globalThis, globals);

export interface OpenedDevice {
  /** Kept alive with the device: when the instance is collected, Dawn's next asynchronous call crashes the process. */
  instance: GPU;
  device: GPUDevice;
  /** All its buffers. */
  memory: DeviceMemory;
  /** As the driver names it, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  adapterName: string;
  /** Identifies adapter and driver version; part of the fingerprint. */
  adapterIdentity: string;
  /** Computes on the CPU: other kernel variants win there. */
  software: boolean;
  /** Lanes of a subgroup where that is one fixed number and subgroups can be used; otherwise null. */
  subgroupSize: number | null;
  /** Resolves with the driver's words when the device is gone. */
  lost: Promise<string>;
  destroy(): void;
}

/** What results and measurements of a device hold for: adapter and driver, and the processor where that computes. */
export function identityOf({ adapterIdentity, software }: OpenedDevice): string[] {
  return [adapterIdentity, software ? (cpus()[0]?.model ?? '') : ''];
}

/** The adapter is missing or refused the device. The message says what to do. */
export class AdapterError extends Error {
  override readonly name = 'AdapterError';
  readonly code = 'no_adapter';
}

/** The GPU is gone (driver reset, unplugged, out of memory): every buffer with it. Worth a new process. */
export class DeviceLost extends Error {
  override readonly name = 'DeviceLost';
  readonly code = 'device_lost';
}

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxUniformBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxUniformBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;

export interface OpenOptions {
  /** As for `create()` of the package webgpu, e.g. `adapter=llvmpipe`. */
  dawnFlags: readonly string[];
  /** Times on the GPU can be asked for, to the nanosecond: for whoever measures. */
  timestamps?: boolean;
}

/** What Dawn keeps from web pages: unsafe, and blurred to a tenth of a millisecond. */
const TIMESTAMP_FLAGS = ['enable-dawn-features=allow_unsafe_apis', 'disable-dawn-features=timestamp_quantization'];

export async function openDevice({ dawnFlags, timestamps = false }: OpenOptions): Promise<OpenedDevice> {
  const gpu = create([...dawnFlags, ...(timestamps ? TIMESTAMP_FLAGS : [])]);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter)
    throw new AdapterError(`no WebGPU adapter with ${dawnFlags.join(' ') || 'default flags'}; run: npm run doctor`);
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const subgroups = adapter.features.has('subgroups');
  const device = await adapter.requestDevice({
    label: 'hearth',
    requiredLimits,
    requiredFeatures: [
      ...(subgroups ? (['subgroups'] as const) : []),
      ...(timestamps ? (['timestamp-query'] as const) : []),
    ],
  });
  const { vendor, architecture, device: model, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const adapterName = model || description;
  return {
    instance: gpu,
    device,
    memory: new DeviceMemory(device),
    adapterName,
    adapterIdentity: [vendor, architecture, model, description, `subgroup ${subgroupMinSize}-${subgroupMaxSize}`].join(
      '/',
    ),
    software: /llvmpipe|lavapipe|swiftshader/i.test(`${model} ${description}`),
    subgroupSize: subgroups && subgroupMinSize === subgroupMaxSize ? (subgroupMinSize ?? null) : null,
    lost: device.lost.then((info) => `${info.reason}: ${info.message}`),
    destroy: () => device.destroy(),
  };
}
