// The weights of a sleeping model, packed as the GPU had them, in host memory: to be written back as they are, where a start would read the
// file and pack again.

/** Bytes brought to the host at once: what the copy takes on the device beside the weights. */
const STAGING_BYTES = 16 * 2 ** 20;

/** One per buffer, in the order in which the buffers were allocated. */
export type HeldWeights = readonly Uint8Array<ArrayBuffer>[];

/** Copies what the buffers hold; nothing may write to them meanwhile. Rejects when the device is lost. */
export async function holdWeights(device: GPUDevice, buffers: readonly GPUBuffer[]): Promise<HeldWeights> {
  const largest = buffers.reduce((most, { size }) => Math.max(most, size), 0);
  const staging = device.createBuffer({
    label: 'weights to the host',
    size: Math.min(STAGING_BYTES, largest),
    usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
  });
  const held = buffers.map(({ size }) => new Uint8Array(size));
  for (const [i, buffer] of buffers.entries())
    for (let from = 0; from < buffer.size; from += staging.size) {
      const bytes = Math.min(staging.size, buffer.size - from);
      const encoder = device.createCommandEncoder({ label: 'weights to the host' });
      encoder.copyBufferToBuffer(buffer, from, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ, 0, bytes);
      held[i]!.set(new Uint8Array(staging.getMappedRange(0, bytes)), from);
      staging.unmap();
    }
  staging.destroy();
  return held;
}
