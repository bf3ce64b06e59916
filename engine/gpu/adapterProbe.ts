// A process of its own that opens one adapter, computes something small on it and tells what it is, as one JSON line on stdout. A driver
// that crashes or hangs takes this process with it and nothing else. `adapterProbe.ts list` only names what Dawn finds.
import { create } from 'webgpu';
import { openDevice } from './device.ts';

/** No driver is called so: Dawn then names those that there are. */
const NO_ADAPTER = 'adapter=(none of these)';

async function list(): Promise<{ names: string[] }> {
  try {
    await create([NO_ADAPTER]).requestAdapter();
    return { names: [] };
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    return { names: [...words.matchAll(/^ \* backend: '[^']*', name: '(.*)'$/gm)].map(([, name]) => name ?? '') };
  }
}

/** out[i] = i * i, over several workgroups: compiles a shader, runs it and reads it back. */
async function computes(device: GPUDevice): Promise<boolean> {
  const count = 256;
  const module = device.createShaderModule({
    label: 'probe',
    code: `@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(32) fn main(@builtin(global_invocation_id) id: vec3u) { out[id.x] = id.x * id.x; }`,
  });
  const pipeline = device.createComputePipeline({
    label: 'probe',
    layout: 'auto',
    compute: { module, entryPoint: 'main' },
  });
  const size = count * 4;
  const out = device.createBuffer({ label: 'probe', size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const back = device.createBuffer({ label: 'probe', size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const layout = pipeline.getBindGroupLayout(0);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: out } }] }));
  pass.dispatchWorkgroups(count / 32);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, size);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(GPUMapMode.READ);
  return new Uint32Array(back.getMappedRange()).every((value, i) => value === i * i);
}

async function probe(dawnFlags: string[]): Promise<Record<string, unknown>> {
  const adapter = await create(dawnFlags).requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return { ok: false, why: 'Dawn finds no adapter here' };
  const { vendor, architecture, device: model, description } = adapter.info;
  const limits: Record<string, number> = {};
  for (const name in adapter.limits) {
    const value: unknown = Reflect.get(adapter.limits, name);
    if (typeof value === 'number') limits[name] = value;
  }
  const features = [...adapter.features].sort();
  const opened = await openDevice({ dawnFlags });
  if (!(await computes(opened.device))) return { ok: false, why: 'its driver computes wrong results' };
  return {
    ok: true,
    name: description || opened.adapterName,
    info: { vendor, architecture, device: model, description },
    limits,
    features,
  };
}

async function answer(): Promise<Record<string, unknown>> {
  const [, , mode = '', ...dawnFlags] = process.argv;
  try {
    return mode === 'list' ? await list() : await probe(dawnFlags);
  } catch (error) {
    return { ok: false, why: error instanceof Error ? error.message : String(error) };
  }
}

const line = `${JSON.stringify(await answer())}\n`;
// Some drivers crash while they are put away: what was said counts.
process.stdout.write(line, () => process.exit(0));
