// SwiftShader, the software Vulkan of last resort: the npm package @sparticuz/chromium carries loader, driver and driver file for
// linux-x64. Unpacked once into the user's cache; nothing of it runs in this process, a child's environment points at it.
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { brotliDecompress } from 'node:zlib';
import { readTar, TarError } from './tarEntries.ts';

const ICD = 'vk_swiftshader_icd.json';
const FILES = ['libvulkan.so.1', 'libvk_swiftshader.so', ICD];
/** The archive unpacks to 15 MB today. */
const MAX_UNPACKED_BYTES = 128 * 2 ** 20;

/** Unpacks the driver below `cacheDir` if it isn't there yet. Resolves with its folder. Throws TarError, or the file system's error. */
export async function unpackSwiftShader(cacheDir: string, archive = packagedArchive()): Promise<string> {
  const packed = await readFile(archive);
  const digest = createHash('sha256').update(packed).digest('hex').slice(0, 16);
  const folder = join(cacheDir, `swiftshader-${digest}`);
  if (isComplete(folder)) return folder;
  const entries = readTar(await promisify(brotliDecompress)(packed, { maxOutputLength: MAX_UNPACKED_BYTES }));
  const fresh = `${folder}.${randomUUID()}`;
  await mkdir(fresh, { recursive: true });
  try {
    for (const name of FILES) {
      const bytes = entries.get(name);
      if (!bytes) throw new TarError(`${archive} holds no ${name}; reinstall with: npm ci`);
      await writeFile(join(fresh, name), bytes);
    }
    if (!isComplete(folder)) await rm(folder, { recursive: true, force: true });
    await rename(fresh, folder).catch((error) => {
      if (!isComplete(folder)) throw error; // otherwise another process was quicker
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return folder;
}

/** What a process needs in its environment, from its start on, to see this driver and no other. */
export function swiftShaderEnv(folder: string, env: NodeJS.ProcessEnv): Record<string, string> {
  return {
    VK_ICD_FILENAMES: join(folder, ICD),
    VK_DRIVER_FILES: join(folder, ICD),
    LD_LIBRARY_PATH: [folder, env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter),
  };
}

function packagedArchive(): string {
  // The package exports nothing but its entry, build/esm/index.js.
  return fileURLToPath(new URL('../../bin/swiftshader.tar.br', import.meta.resolve('@sparticuz/chromium')));
}

function isComplete(folder: string): boolean {
  return FILES.every((name) => existsSync(join(folder, name)));
}
