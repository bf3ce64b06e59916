// A process' own streams and signals, as a supervised process hears and speaks through them.
import { Console } from 'node:console';
import type { ProcessIo } from './processProtocol.ts';

/** Called once, before anything can print. */
export function processIo(): ProcessIo {
  // stdout is the supervisor's protocol; a library that prints goes to stderr with the logs.
  globalThis.console = new Console(process.stderr, process.stderr);
  // A reader that went away shows itself at the end of stdin.
  process.stdout.on('error', () => {});
  return {
    stdin: process.stdin,
    say: (message) => process.stdout.write(`${JSON.stringify(message)}\n`),
    logLine: (line) => process.stderr.write(line),
    signalled: new Promise<void>((resolve) => {
      process.on('SIGTERM', () => resolve());
      process.on('SIGINT', () => resolve());
    }),
  };
}
