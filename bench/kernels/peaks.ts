// What the adapter can do at most, by shaders that do nothing else: multiply-adds in f32, packed int8 dots, and loads from uniform and from storage
// buffers, 8 lanes reading 8 neighbouring vec4 as the matrix kernel does.
import type { OpenedDevice } from '../../engine/gpu/device.ts';
import { dispatchOf } from '../../test/support/gpu.ts';
import type { KernelCase, Operation } from './operation.ts';

const STEPS = 512;
const CHAINS = 8;

interface Probe {
  peak: string;
  /** Statements of a step on v0..v7 (vec4f) or i0..i7 (i32), and what a lane does by it. */
  step: string;
  macsPerStep: number;
  bytesPerStep: number;
}

const each = (line: (chain: number) => string, chains = CHAINS): string =>
  Array.from({ length: chains }, (_, i) => line(i)).join('\n');

/** Independent chains of vec4: 8 registers of the 16 that a software adapter has. More, or fewer turns below, measured lower. */
const FMA_CHAINS = 2;
/** Steps of a chain per turn of the loop, so that the loop itself costs nothing. */
const FMA_UNROLLED = 16;

const PROBES: Probe[] = [
  {
    peak: 'fma',
    step: each(() => each((i) => `v${i} = fma(v${i}, a, b);`, FMA_CHAINS), FMA_UNROLLED),
    macsPerStep: 4 * FMA_CHAINS * FMA_UNROLLED,
    bytesPerStep: 0,
  },
  {
    peak: 'dot4I8Packed',
    step: each((i) => `i${i} = dot4I8Packed(u32(i${i}), k) + i${i};`),
    macsPerStep: 4 * CHAINS,
    bytesPerStep: 0,
  },
  ...(['uniform', 'storage'] as const).map((space) => ({
    peak: `${space} loads`,
    step: each((i) => `w${i} ^= ${space}Data[(at + ${8 * i}u) % ${space === 'uniform' ? '4096u' : 'p.storageVec4'}];`),
    macsPerStep: 0,
    bytesPerStep: 16 * CHAINS,
  })),
];

const shader = (step: string, lanes: number): string => `
struct Params { storageVec4: u32, a: f32, b: f32, k: u32 }
@group(0) @binding(0) var<uniform> uniformData: array<vec4u, 4096>;
@group(0) @binding(1) var<storage, read> storageData: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(${lanes})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = vec4f(p.a);
  let b = vec4f(p.b);
  let k = p.k;
${each((i) => `  var v${i} = vec4f(f32(id.x + ${i}u)); var i${i} = i32(id.x + ${i}u); var w${i} = vec4u(0u);`)}
  for (var step = 0u; step < ${STEPS}u; step++) {
    let at = (id.x / 8u) * 977u + step * ${8 * CHAINS}u + id.x % 8u;
    ${step}
  }
  let v = ${Array.from({ length: CHAINS }, (_, i) => `v${i}`).join(' + ')};
  let i = ${Array.from({ length: CHAINS }, (_, i) => `i${i}`).join(' + ')};
  let w = ${Array.from({ length: CHAINS }, (_, i) => `w${i}`).join(' ^ ')};
  // All bindings stay in use, and nothing can be left out as unused.
  out[id.x] = v + f32(i) + vec4f(w ^ uniformData[0] ^ storageData[0]);
}
`;

export const peaks: Operation = {
  name: 'peak',
  async cases(gpu: OpenedDevice, quick: boolean): Promise<KernelCase[]> {
    const { device, software } = gpu;
    const lanes = software ? 8 : 256;
    const groups = software ? 128 : 4096;
    const storageBytes = software ? 2 ** 24 : 2 ** 28;
    const { UNIFORM, STORAGE, COPY_DST } = GPUBufferUsage;
    const params = device.createBuffer({ size: 16, usage: UNIFORM | COPY_DST });
    const words = new Uint32Array([storageBytes / 16, 0, 0, 0x01020301]);
    new Float32Array(words.buffer).set([0.999, 0.001], 1);
    device.queue.writeBuffer(params, 0, words);
    const buffers = [
      device.createBuffer({ size: 65536, usage: UNIFORM }),
      device.createBuffer({ size: storageBytes, usage: STORAGE }),
      device.createBuffer({ size: lanes * groups * 16, usage: STORAGE }),
      params,
    ];
    const cases: KernelCase[] = [];
    for (const { peak, step, macsPerStep, bytesPerStep } of quick ? PROBES.slice(0, 1) : PROBES) {
      const module = device.createShaderModule({ label: `peak ${peak}`, code: shader(step, lanes) });
      const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
      cases.push({
        parameters: { peak },
        macs: macsPerStep * STEPS * lanes * groups,
        bytes: bytesPerStep * STEPS * lanes * groups,
        encode: dispatchOf(device, pipeline, buffers, groups),
      });
    }
    return cases;
  },
};
