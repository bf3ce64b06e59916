// The GPU of the tests: the adapter that `npm test` found (HEARTH_TEST_ADAPTER), or whatever Dawn takes first when a test is run by hand.
import { type OpenedDevice, openDevice } from '../../engine/gpu/device.ts';

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

/** Runs one dispatch of `pipeline` over `buffers`, bound in order from 0. */
export function dispatchOnce(
  device: GPUDevice,
  pipeline: GPUComputePipeline,
  buffers: readonly GPUBuffer[],
  x: number,
  y = 1,
  z = 1,
): void {
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindGroup);
  pass.dispatchWorkgroups(x, y, z);
  pass.end();
  device.queue.submit([encoder.finish()]);
}
