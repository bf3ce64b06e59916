// On the real machine: SwiftShader comes with the packages, so there is always one adapter that must be found.
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeTar } from '../../test/support/tarWriter.ts';
import { findAdapter } from './adapterSearch.ts';
import { probeAdapter } from './probeProcess.ts';
import { unpackSwiftShader } from './swiftShader.ts';
import { systemDrivers } from './systemDrivers.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-adapter-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The environment as a user without any driver has it. */
const bare = () => {
  const { HEARTH_ADAPTER: _, XDG_RUNTIME_DIR: __, ...env } = process.env;
  return { ...env, VK_DRIVER_FILES: '/nonexistent', VK_ICD_FILENAMES: '/nonexistent', XDG_CACHE_HOME: folder };
};

describe('on a machine whose drivers are hidden', () => {
  it('SwiftShader is unpacked, opened and computes; the choice says why nothing better was taken', async () => {
    const choice = await findAdapter({ env: bare() });
    expect(choice.kind).toBe('swiftshader');
    expect(choice.info.description).toMatch(/SwiftShader/);
    expect(choice.limits.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(2 ** 27);
    expect(choice.rejected.map(({ name }) => name)).toEqual(['hardware GPU', 'Mesa lavapipe']);
    expect((await stat(choice.env.XDG_RUNTIME_DIR ?? '')).mode & 0o777).toBe(0o700);
    // The choice is all that another process needs.
    const again = await probeAdapter({ ...bare(), ...choice.env }, choice.dawnFlags);
    expect(again).toMatchObject({ ok: true, name: choice.name });
  });

  it('many that start at once unpack one whole copy', async () => {
    const cache = join(folder, 'many');
    const folders = await Promise.all(Array.from({ length: 4 }, () => unpackSwiftShader(cache)));
    expect(new Set(folders).size).toBe(1);
    expect(await readdir(cache)).toHaveLength(1);
  });

  it('an archive without the driver is refused, and leaves nothing', async () => {
    const archive = join(folder, 'other.tar.br');
    await writeFile(archive, brotliCompressSync(writeTar([{ name: 'libvulkan.so.1', data: Buffer.from('x') }])));
    const cache = join(folder, 'refused');
    await expect(unpackSwiftShader(cache, archive)).rejects.toThrow(/holds no libvk_swiftshader\.so/);
    expect(await readdir(cache)).toEqual([]);
  });
});

it('a driver that cannot be loaded is a sentence, not a crash', async () => {
  const icd = join(folder, 'broken.json');
  await writeFile(join(folder, 'broken.so'), 'no library');
  await writeFile(
    icd,
    JSON.stringify({
      file_format_version: '1.0.0',
      ICD: { library_path: join(folder, 'broken.so'), api_version: '1.3.0' },
    }),
  );
  const result = await probeAdapter({ ...bare(), VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd }, []);
  expect(result).toMatchObject({ ok: false, why: expect.stringMatching(/no adapter|no suitable/) });
});

describe('the drivers of the system', () => {
  async function driver(name: string, library: string, content: string): Promise<string> {
    const icds = join(folder, name);
    await mkdir(icds, { recursive: true });
    await writeFile(join(icds, library), content);
    await writeFile(join(icds, 'lvp_icd.x86_64.json'), JSON.stringify({ ICD: { library_path: join(icds, library) } }));
    return icds;
  }

  it('tell the version of Mesa that is inside the library, also across the border of two reads', async () => {
    const icds = await driver('mesa', 'libvulkan_lvp.so', `${'\0'.repeat(2 ** 20 - 7)}Mesa 22.3.6 (LLVM 15.0.6)`);
    expect(systemDrivers({}, [icds])).toMatchObject({ overriddenBy: null, lavapipe: '22.3.6' });
    const hidden = await driver('plain', 'libvulkan_lvp.so', 'nothing');
    expect(systemDrivers({}, [hidden]).lavapipe).toBe('unknown');
    expect(systemDrivers({}, [join(folder, 'absent')])).toEqual({ files: [], overriddenBy: null, lavapipe: null });
  });

  it('are those that a variable names, where one does', async () => {
    const icds = await driver('named', 'libvulkan_lvp.so', 'Mesa 25.0.7');
    expect(systemDrivers({ VK_DRIVER_FILES: '/nonexistent' }, [icds])).toMatchObject({
      files: [],
      overriddenBy: 'VK_DRIVER_FILES',
    });
    expect(systemDrivers({ VK_ICD_FILENAMES: join(icds, 'lvp_icd.x86_64.json') }, [])).toMatchObject({
      lavapipe: '25.0.7',
    });
  });
});
