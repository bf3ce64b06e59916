// The GPU of the tests: the adapter that `npm test` found (HEARTH_TEST_ADAPTER), or whatever Dawn takes first when a test is run by hand.
import { type OpenedDevice, openDevice } from '../../engine/gpu/device.ts';
import { bindInOrder } from '../../engine/llama/dispatch.ts';
import { Pipelines } from '../../engine/llama/pipelines.ts';

let opened: Promise<OpenedDevice> | undefined;

/** One device per test process: software adapters take a second to open. */
export function testDevice(): Promise<OpenedDevice> {
  const choice: { dawnFlags?: string[] } = JSON.parse(process.env.HEARTH_TEST_ADAPTER ?? '{}');
  opened ??= openDevice({ dawnFlags: choice.dawnFlags ?? [] }).then((gpu) => {
    gpu.device.onuncapturederror = (event) => {
      throw new Error(`GPU: ${event.error.message}`);
    };
    return gpu;
  });
  return opened;
}

const compiled = new WeakMap<GPUDevice, Pipelines>();

/** Pipelines of a device: each shader is compiled once for all rigs. */
export function pipelinesOf(device: GPUDevice): Pipelines {
  const pipelines = compiled.get(device) ?? new Pipelines(device);
  compiled.set(device, pipelines);
  return pipelines;
}

/** A buffer holding `data`, padded to at least `minBytes`. */
export function upload(device: GPUDevice, data: Uint32Array | Float32Array, usage: number, minBytes = 0): GPUBuffer {
  const size = Math.max(data.byteLength, minBytes, 32);
  const buffer = device.createBuffer({ size, usage: usage | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
  device.queue.writeBuffer(buffer, 0, Uint32Array.from(new Uint32Array(data.buffer, data.byteOffset, data.length)));
  return buffer;
}

export async function download(device: GPUDevice, buffer: GPUBuffer, bytes = buffer.size): Promise<ArrayBuffer> {
  const staging = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const copy = staging.getMappedRange().slice(0);
  staging.destroy();
  return copy;
}

export type Encode = (pass: GPUComputePassEncoder) => void;

/** One dispatch of `pipeline` over `buffers`, bound in order from 0, as often as wanted. */
export function dispatchOf(
  device: GPUDevice,
  pipeline: GPUComputePipeline,
  buffers: readonly GPUBuffer[],
  x: number,
  y = 1,
  z = 1,
): Encode {
  const bindGroup = bindInOrder(device, pipeline, buffers);
  return (pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(x, y, z);
  };
}

/** Runs it once. */
export function submit(device: GPUDevice, encode: Encode): void {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

export function dispatchOnce(
  device: GPUDevice,
  pipeline: GPUComputePipeline,
  buffers: readonly GPUBuffer[],
  ...groups: [x: number, y?: number, z?: number]
): void {
  submit(device, dispatchOf(device, pipeline, buffers, ...groups));
}
