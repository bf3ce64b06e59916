import { describe, expect, it } from 'vitest';
import { AdapterSearchError, type AdapterWorld, chooseAdapter } from './adapterOrder.ts';
import type { SystemDrivers } from './systemDrivers.ts';

const NVIDIA = 'NVIDIA L4';
const INTEL = 'Intel(R) UHD Graphics';
const LLVMPIPE = 'llvmpipe (LLVM 15.0.6, 256 bits)';
const SWIFTSHADER_ENV = { VK_DRIVER_FILES: '/cache/icd.json' };

/** A machine: adapters that Dawn lists, those among them that fail, and what the loader would see. */
function machine(options: {
  names?: string[];
  broken?: Record<string, string>;
  preferred?: string;
  drivers?: Partial<SystemDrivers>;
  words?: string;
  platform?: string;
  noSwiftShader?: boolean;
}): AdapterWorld & { probed: string[] } {
  const { names = [], broken = {}, preferred } = options;
  const probed: string[] = [];
  return {
    probed,
    platform: options.platform ?? 'linux-x64',
    list: async () => ({ names, words: options.words ?? '' }),
    drivers: () => ({
      files: ['/usr/share/vulkan/icd.d/x.json'],
      overriddenBy: null,
      lavapipe: null,
      ...options.drivers,
    }),
    probe: async (_env, [flag]) => {
      const name = flag?.replace('adapter=', '') ?? preferred ?? names[0] ?? '';
      probed.push(flag ?? '(preferred)');
      const why = broken[name];
      if (why) return { ok: false, why, words: '' };
      const info = { vendor: '', architecture: '', device: name, description: name };
      return { ok: true, name, info, limits: {}, features: [] };
    },
    swiftShader: async () => {
      if (options.noSwiftShader) throw new Error('no room');
      return SWIFTSHADER_ENV;
    },
  };
}

describe('the adapter taken', () => {
  const crash = 'its driver ended the probe (SIGSEGV)';
  const rows: [string, Parameters<typeof machine>[0], string, string, string[]][] = [
    ['a GPU before everything', { names: [LLVMPIPE, NVIDIA] }, 'auto', NVIDIA, []],
    ['of two GPUs the one that Dawn prefers', { names: [INTEL, NVIDIA], preferred: NVIDIA }, 'auto', NVIDIA, []],
    [
      'a GPU by name, when Dawn prefers a software driver',
      { names: [INTEL, NVIDIA, LLVMPIPE], preferred: LLVMPIPE },
      'auto',
      INTEL,
      [],
    ],
    [
      'the next GPU after one that crashes',
      { names: [INTEL, NVIDIA], broken: { [INTEL]: crash } },
      'auto',
      NVIDIA,
      ['preferred GPU', INTEL],
    ],
    ['lavapipe where there is no GPU', { names: [LLVMPIPE] }, 'auto', LLVMPIPE, ['hardware GPU']],
    [
      'lavapipe after a GPU that computes wrongly',
      { names: [NVIDIA, LLVMPIPE], broken: { [NVIDIA]: 'its driver computes wrong results' } },
      'auto',
      LLVMPIPE,
      [NVIDIA],
    ],
    ['SwiftShader where there is nothing', {}, 'auto', 'SwiftShader', ['hardware GPU', 'Mesa lavapipe']],
    [
      'SwiftShader after a lavapipe that crashes',
      { names: [LLVMPIPE], broken: { [LLVMPIPE]: crash } },
      'auto',
      'SwiftShader',
      ['hardware GPU', LLVMPIPE],
    ],
    ['SwiftShader by name, GPU or not', { names: [NVIDIA] }, 'swiftshader', 'SwiftShader', []],
    ['lavapipe by either name', { names: [NVIDIA, LLVMPIPE] }, 'llvmpipe', LLVMPIPE, []],
    ['any by a part of its name', { names: [INTEL, NVIDIA] }, 'nvidia', NVIDIA, []],
  ];
  it.each(rows)('is %s', async (_name, options, wanted, taken, rejected) => {
    const choice = await chooseAdapter(machine(options), wanted);
    expect(choice.name).toBe(taken);
    expect(choice.rejected.map(({ name }) => name)).toEqual(rejected);
  });

  it('comes with the environment that its driver needs', async () => {
    const env = async (options: Parameters<typeof machine>[0]) => (await chooseAdapter(machine(options))).env;
    expect(await env({ names: [NVIDIA] })).toEqual({});
    expect(await env({ names: [LLVMPIPE] })).toEqual({ LP_NUM_THREADS: '0' });
    expect(await env({})).toEqual(SWIFTSHADER_ENV);
  });

  it('is the named one or none: nothing else is tried', async () => {
    const world = machine({ names: [NVIDIA, LLVMPIPE], broken: { [NVIDIA]: crash } });
    await expect(chooseAdapter(world, 'nvidia')).rejects.toThrow(/nvidia.*Found: NVIDIA L4, llvmpipe[\s\S]*SIGSEGV/);
    await expect(chooseAdapter(world, 'radeon')).rejects.toThrow(AdapterSearchError);
    expect(world.probed).toEqual([`adapter=${NVIDIA}`]);
  });
});

describe('why a better one was not taken', () => {
  const why = async (options: Parameters<typeof machine>[0]) => {
    const { rejected } = await chooseAdapter(machine(options));
    return Object.fromEntries(rejected.map((each) => [each.name, each.why]));
  };

  it('Mesa that is too old: its version, and where a newer one is', async () => {
    const reasons = await why({ drivers: { lavapipe: '22.3.6' } });
    expect(reasons['Mesa lavapipe']).toMatch(/Mesa 22\.3\.6 is too old.*needs 23.*bookworm-backports/);
  });

  it('Mesa that Dawn refuses for another reason: the words of Dawn', async () => {
    const reasons = await why({
      drivers: { lavapipe: '25.0.7' },
      words: 'x\nWarning: Vulkan something required.\n at y',
    });
    expect(reasons['Mesa lavapipe']).toMatch(/Mesa 25\.0\.7.*Vulkan something required/);
  });

  it('no Mesa: how to get it', async () => {
    expect((await why({}))['Mesa lavapipe']).toMatch(/not installed.*apt-get install/);
  });

  it('a variable that hides every driver: its name', async () => {
    const reasons = await why({ drivers: { overriddenBy: 'VK_DRIVER_FILES', files: [] } });
    expect(reasons['hardware GPU']).toContain('VK_DRIVER_FILES');
    expect(reasons['Mesa lavapipe']).toContain('VK_DRIVER_FILES');
  });

  it('nothing at all: every reason in one message', async () => {
    const failing = async (options: Parameters<typeof machine>[0]) =>
      chooseAdapter(machine(options)).then(
        () => '',
        (error: Error) => error.message,
      );
    expect(await failing({ platform: 'linux-arm64' })).toMatch(
      /hardware GPU[\s\S]*Mesa lavapipe[\s\S]*SwiftShader.*linux-arm64/,
    );
    expect(await failing({ noSwiftShader: true })).toMatch(/SwiftShader: could not be unpacked: no room/);
  });
});
