// What the Vulkan loader of this machine would look at: driver files, and the version of Mesa's software driver among them. Only for
// telling people why an adapter is not there; which adapters there are, Dawn itself says.
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';

const SYSTEM_FOLDERS = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d'];
const LIBRARY_FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'];
const READ_BYTES = 2 ** 20;
/** A driver with its compiler is some ten megabytes. */
const MAX_LIBRARY_BYTES = 256 * 2 ** 20;

export interface SystemDrivers {
  /** Driver files that exist and that the loader would use. */
  files: string[];
  /** The variable that names them instead of the system's folders, if one does. */
  overriddenBy: string | null;
  /** Mesa's software driver is among them: its version, or 'unknown'. Otherwise null. */
  lavapipe: string | null;
}

export function systemDrivers(env: NodeJS.ProcessEnv, folders: readonly string[] = SYSTEM_FOLDERS): SystemDrivers {
  const overriddenBy = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'].find((name) => env[name]) ?? null;
  const named = overriddenBy ? (env[overriddenBy] ?? '').split(':').filter(Boolean) : folders;
  const files = named.flatMap(driverFilesAt);
  const lavapipe = files.find((file) => /\blvp_icd|lavapipe/.test(file));
  return { files, overriddenBy, lavapipe: lavapipe ? mesaVersion(lavapipe) : null };
}

/** A variable may name a file or a folder. */
function driverFilesAt(path: string): string[] {
  try {
    return readdirSync(path)
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(path, name));
  } catch {
    return existsSync(path) ? [path] : [];
  }
}

function mesaVersion(driverFile: string): string {
  try {
    const { ICD }: { ICD?: { library_path?: string } } = JSON.parse(readFileSync(driverFile, 'utf8'));
    const library = ICD?.library_path ?? '';
    const candidates = isAbsolute(library)
      ? [library]
      : [dirname(driverFile), ...LIBRARY_FOLDERS].map((folder) => join(folder, library));
    const path = candidates.find((candidate) => existsSync(candidate));
    return (path && versionIn(path)) || 'unknown';
  } catch {
    return 'unknown';
  }
}

/** The driver holds its name as text: `Mesa 25.0.7`. */
function versionIn(library: string): string | null {
  const file = openSync(library, 'r');
  try {
    const buffer = Buffer.alloc(READ_BYTES);
    let tail = '';
    for (let at = 0; at < MAX_LIBRARY_BYTES; at += READ_BYTES) {
      const bytes = readSync(file, buffer, 0, READ_BYTES, at);
      if (bytes === 0) return null;
      const text = tail + buffer.toString('latin1', 0, bytes);
      const version = /Mesa (\d{2}\.\d+\.\d+)/.exec(text)?.[1];
      if (version) return version;
      tail = text.slice(-32);
    }
    return null;
  } finally {
    closeSync(file);
  }
}
