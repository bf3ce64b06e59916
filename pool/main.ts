// Entry of the pool process: `node pool/main.ts`, section on stdin. See process.ts for its life.
import { Console } from 'node:console';
import { openModelText } from '../engine/model/modelText.ts';
import { runPoolProcess } from './process.ts';

// stdout is the supervisor's protocol; a library that prints goes to stderr with the logs.
globalThis.console = new Console(process.stderr, process.stderr);

const signalled = new Promise<void>((resolve) => {
  process.on('SIGTERM', () => resolve());
  process.on('SIGINT', () => resolve());
});

// A reader that went away shows itself at the end of stdin.
process.stdout.on('error', () => {});

const code = await runPoolProcess({
  stdin: process.stdin,
  say: (message) => process.stdout.write(`${JSON.stringify(message)}\n`),
  logLine: (line) => process.stderr.write(line),
  signalled,
  engineWorker: new URL('./engineWorker.ts', import.meta.url),
  openText: openModelText,
});
process.exit(code);
