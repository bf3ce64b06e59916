// Makes the data folder before anything is loaded into it, readable by its owner alone; what can't be made is told with the way out.
// One level at a time: Node's recursive mkdir never returns where a file system answers ENOENT below a folder that exists, as /proc does.
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from '../engine/model/sourceErrors.ts';
import { ConfigError } from './config.ts';

/** `path` is absolute. Throws ConfigError. */
export function makeDataFolder(path: string): void {
  try {
    make(path);
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new ConfigError(
      `the data folder ${path} can't be written (${errorCode(error)}). Set HEARTH_DATA_DIR to a folder that this user may write to`,
    );
  }
}

function make(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) make(parent);
  mkdirSync(path, { mode: 0o700 });
}
